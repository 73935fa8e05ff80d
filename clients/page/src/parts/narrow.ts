// Whether the page is as narrow as on a phone.
import { useValue, Value } from "../value.js";

const query = matchMedia("(max-width: 720px)");
const narrow = new Value(query.matches);
query.addEventListener("change", () => narrow.set(query.matches));

/** Whether it is; the same width as in the style sheet. */
export function useNarrow(): boolean {
  return useValue(narrow);
}
