// The route of the page, and the namespace in it.
import { formatRoute, parseRoute, type Route } from "./logic/route.js";
import { Value } from "./value.js";

const DEFAULT = "default";

export const route = new Value<Route>(parseRoute(location.hash));
export const namespace = new Value(namespaceOf(route.get()));

addEventListener("hashchange", () => {
  const now = parseRoute(location.hash);
  namespace.set(namespaceOf(now));
  route.set(now);
});

function namespaceOf({ query }: Route): string {
  return query.get("namespace") || DEFAULT;
}

/** The hash of a place in the current namespace. */
export function href(path: readonly string[], query: Readonly<Record<string, string | undefined>> = {}): string {
  const current = namespace.get();
  return formatRoute(path, { namespace: current === DEFAULT ? undefined : current, ...query });
}

/** Goes to a place. @param replace whether the place now is left out of the history. */
export function go(to: string, replace = false): void {
  if (replace) {
    location.replace(to);
  } else {
    location.hash = to;
  }
}

/** Changes parameters of the current place; undefined and empty ones are removed. */
export function setQuery(changes: Readonly<Record<string, string | undefined>>): void {
  const { path, query } = route.get();
  go(formatRoute(path, { ...Object.fromEntries(query), ...changes }), true);
}
