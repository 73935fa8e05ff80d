// Routes in the hash: `#/jobs/film-1?state=RUNNING&namespace=acme`.

/** A place of the page. */
export interface Route {
  /** The decoded parts of the path, as in `["jobs", "film-1"]`. Never empty. */
  readonly path: readonly string[];
  readonly query: URLSearchParams;
}

/** Parses a hash. An empty one is the list of jobs. */
export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path
    .split("/")
    .filter((part) => part !== "")
    .map(decoded);
  return { path: parts.length === 0 ? ["jobs"] : parts, query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The hash of a place. Parameters that are empty are left out. */
export function formatRoute(path: readonly string[], query: Readonly<Record<string, string | undefined>> = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") {
      search.set(name, value);
    }
  }
  const text = search.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text === "" ? "" : `?${text}`}`;
}
