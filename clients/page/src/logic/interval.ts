// How often a view reads.

/** Longest interval that a slow read leads to, and how many times as long as the read it is. */
const LONGEST_MS = 10_000;
const TIMES = 20;

/** Milliseconds until a view reads again, of its own interval and how long the last read took: a slow read is repeated less often. */
export function readAfter(intervalMs: number, tookMs: number): number {
  return Math.max(intervalMs, Math.min(TIMES * tookMs, LONGEST_MS));
}
