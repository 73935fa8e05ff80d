// Values that components follow, and updates batched per animation frame.
import { useEffect, useReducer, useState } from "preact/hooks";

/** A value with subscribers. */
export class Value<T> {
  #value: T;
  readonly #subscribers = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get(): T {
    return this.#value;
  }

  set(value: T): void {
    if (!Object.is(this.#value, value)) {
      this.#value = value;
      for (const notify of [...this.#subscribers]) {
        notify();
      }
    }
  }

  subscribe(notify: () => void): () => void {
    this.#subscribers.add(notify);
    return () => this.#subscribers.delete(notify);
  }
}

/** The value; the component is rendered again when it changes. */
export function useValue<T>(value: Value<T>): T {
  const [, render] = useReducer((count: number) => count + 1, 0);
  useEffect(() => value.subscribe(() => render(undefined)), [value]);
  return value.get();
}

/** Delay of a frame in a tab that is hidden, where no animation frames come. */
const HIDDEN_MS = 1_000;

/** Returns a function that calls `run` once in the next frame, however often it is called, and one that cancels. */
export function perFrame(run: () => void): { readonly request: () => void; readonly cancel: () => void } {
  let frame: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const cancel = () => {
    if (frame !== undefined) {
      cancelAnimationFrame(frame);
    }
    clearTimeout(timer);
    frame = undefined;
    timer = undefined;
  };
  const now = () => {
    cancel();
    run();
  };
  const request = () => {
    if (frame === undefined && timer === undefined) {
      // A frame that was requested before the tab was hidden would come only when it is shown again.
      timer = setTimeout(now, HIDDEN_MS);
      frame = document.hidden ? undefined : requestAnimationFrame(now);
    }
  };
  return { request, cancel };
}

/** A function that renders the component in the next frame. */
export function useFrames(): () => void {
  const [, render] = useReducer((count: number) => count + 1, 0);
  const [frames] = useState(() => perFrame(() => render(undefined)));
  useEffect(() => frames.cancel, [frames]);
  return frames.request;
}

/** Seconds since 1970, updated each second while the tab is visible. */
const clock = new Value(Date.now());
setInterval(() => document.hidden || clock.set(Date.now()), 1_000);

/** The time in milliseconds; the component is rendered each second. */
export function useClock(): number {
  return useValue(clock);
}
