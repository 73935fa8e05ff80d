// The segments of a session, in order.
import type { StoredSegment } from "../client/segments.js";
import type { SessionUpdate } from "../client/session_watch.js";

/** Segments by their start, those without one last; of equal start by their arrival. */
export class Captions {
  readonly #segments = new Map<string, StoredSegment>();
  #order: readonly StoredSegment[] | undefined;

  get size(): number {
    return this.#segments.size;
  }

  /** Applies an update of the watch. */
  take(update: SessionUpdate): void {
    if (update.reset) {
      this.#segments.clear();
    }
    for (const segment of update.segments) {
      this.#segments.set(segment.key, segment);
    }
    for (const key of update.deleted) {
      this.#segments.delete(key);
    }
    this.#order = undefined;
  }

  /** The segments, in order. */
  list(): readonly StoredSegment[] {
    this.#order ??= [...this.#segments.values()].sort(inOrder);
    return this.#order;
  }

  /** The languages of the segments, sorted. */
  languages(): string[] {
    return [...new Set([...this.#segments.values()].map(({ language }) => language ?? ""))]
      .filter((language) => language !== "")
      .sort();
  }
}

function inOrder(one: StoredSegment, other: StoredSegment): number {
  const [a, b] = [one.startMs ?? Number.POSITIVE_INFINITY, other.startMs ?? Number.POSITIVE_INFINITY];
  return a === b ? Number(one.arrival - other.arrival) : a - b;
}

/** A part of a text, and whether it is a match. */
export interface Part {
  readonly text: string;
  readonly isMatch: boolean;
}

/** Splits a text at its matches, which count Unicode characters. */
export function marked(
  text: string,
  matches: readonly { readonly start: number; readonly end: number }[],
): readonly Part[] {
  const characters = [...text];
  const parts: Part[] = [];
  let done = 0;
  for (const { start, end } of matches) {
    parts.push({ text: characters.slice(done, start).join(""), isMatch: false });
    parts.push({ text: characters.slice(start, end).join(""), isMatch: true });
    done = end;
  }
  parts.push({ text: characters.slice(done).join(""), isMatch: false });
  return parts.filter((part) => part.text !== "");
}
