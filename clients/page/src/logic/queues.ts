// Lists by name that are read page by page.
import { count } from "./format.js";

/** A list as far as it was read. */
export interface Listed<Item> {
  readonly items: readonly Item[];
  /** Whether there are more. */
  readonly isPartial: boolean;
}

/**
 * Reads pages until the list ends, or so many items or pages were read. Pages can be short or empty, and have a token
 * if the list goes on.
 */
export async function listed<Item>(
  most: number,
  pages: number,
  read: (pageToken: string) => Promise<{ readonly items: readonly Item[]; readonly nextPageToken: string }>,
): Promise<Listed<Item>> {
  const all: Item[] = [];
  let pageToken = "";
  for (let page = 0; page < pages && all.length < most; page += 1) {
    const { items, nextPageToken } = await read(pageToken);
    all.push(...items);
    pageToken = nextPageToken;
    if (pageToken === "") {
      break;
    }
  }
  return { items: all, isPartial: pageToken !== "" };
}

/** A count that ends at a bound: `10,000+` where there are more. */
export function bounded(value: number, isCapped: boolean): string {
  return isCapped ? `${count(value)}+` : count(value);
}
