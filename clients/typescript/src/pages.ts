// Lists that are read page by page.

/**
 * Iterates over the pages of a list, at least one. The next page is read when the one before was consumed.
 *
 * @param read reads the page of a token, "" for the first one.
 */
export async function* pages<P extends { readonly nextPageToken: string }>(
  read: (pageToken: string) => Promise<P>,
): AsyncGenerator<P, void> {
  let pageToken = "";
  do {
    const page = await read(pageToken);
    yield page;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}
