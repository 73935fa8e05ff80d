// Repeating calls: when, for how long, and with what waits between.
import { Conflict, DeadlineExceeded, type InterlockError, ResourceExhausted, Unavailable } from "./errors.js";

/**
 * Full jitter: the wait before retry n is random between 0 and `min(longestMs, firstMs * 2 ** n)`. A server that says how
 * long to wait is believed: then the random wait comes on top, so that clients that were refused together do not come
 * back together.
 */
export class Backoff {
  readonly firstMs: number;
  readonly longestMs: number;

  constructor(options: { readonly firstMs?: number | undefined; readonly longestMs?: number | undefined } = {}) {
    this.firstMs = options.firstMs ?? 100;
    this.longestMs = options.longestMs ?? 5_000;
  }

  /** Milliseconds before retry number `retry`, from 0. `askedMs`: what the server asks for. */
  waitMs(retry: number, askedMs: number | undefined): number {
    const bound = Math.min(this.longestMs, this.firstMs * 2 ** Math.min(retry, 30));
    return (askedMs ?? 0) + Math.random() * bound;
  }
}

/** Whether the same call, which is safe to repeat, can succeed later. */
export function canBeRepeated(error: InterlockError): boolean {
  if (error instanceof Unavailable) {
    // OUTCOME_UNKNOWN forbids retries of calls without a request id. All calls of this package are safe to repeat.
    return !error.retryForbidden || error.reason === "OUTCOME_UNKNOWN";
  }
  return (error instanceof Conflict || error instanceof ResourceExhausted) && !error.retryForbidden;
}

/**
 * Makes a call until it succeeds, fails for good, or its time is over. The call must be safe to repeat.
 *
 * @param attempt makes the call; gets the milliseconds that are left. Throws `InterlockError`, or what is not to be
 *   repeated.
 * @throws the last failure, or the reason of the signal.
 */
export async function repeat<T>(
  attempt: (leftMs: number) => Promise<T>,
  asError: (thrown: unknown) => InterlockError,
  options: { readonly timeoutMs: number; readonly backoff: Backoff; readonly signal: AbortSignal },
): Promise<T> {
  const deadline = performance.now() + options.timeoutMs;
  let last: InterlockError | undefined;
  for (let retry = 0; ; retry += 1) {
    let error: InterlockError;
    try {
      return await attempt(Math.max(1, deadline - performance.now()));
    } catch (thrown) {
      options.signal.throwIfAborted();
      error = asError(thrown);
    }
    if (error instanceof DeadlineExceeded && last !== undefined && error.reason === "") {
      // The time ran out on this side during a retry. Why there was one says more.
      throw last;
    }
    const wait = options.backoff.waitMs(retry, error.retryAfterMs);
    if (!canBeRepeated(error) || performance.now() + wait >= deadline) {
      throw error;
    }
    last = error;
    await sleep(wait, options.signal);
  }
}

/** Waits. @throws the reason of the signal once it is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const timer = setTimeout(() => {
      unlink?.();
      resolve();
    }, ms);
    const unlink =
      signal &&
      onAbort(signal, () => {
        clearTimeout(timer);
        reject(signal.reason);
      });
  });
}

/** What is called once a signal is aborted. One listener serves all: Node warns of a leak at more than ten of them. */
const callbacks = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls back once a signal is aborted that is not yet. Returns what undoes it. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const known = callbacks.get(signal);
  const calls = known ?? new Set();
  calls.add(callback);
  if (known === undefined) {
    callbacks.set(signal, calls);
    const aborted = () => {
      for (const call of [...calls]) {
        call();
      }
    };
    signal.addEventListener("abort", aborted, { once: true });
  }
  return () => calls.delete(callback);
}

/**
 * A signal that is aborted with the first of several, and `unlink`, to be called when it is not needed any more: signals
 * that live long would hold all that were linked to them.
 */
export function linked(...signals: readonly (AbortSignal | undefined)[]): {
  readonly signal: AbortSignal;
  readonly unlink: () => void;
} {
  const controller = new AbortController();
  const links: (() => void)[] = [];
  for (const signal of signals) {
    if (signal === undefined) {
      continue;
    }
    if (signal.aborted) {
      controller.abort(signal.reason);
      break;
    }
    links.push(onAbort(signal, () => controller.abort(signal.reason)));
  }
  return {
    signal: controller.signal,
    unlink: () => {
      for (const unlink of links) {
        unlink();
      }
    },
  };
}

/** Something that one loop waits for and others set. */
export class Wakeup {
  #isSet = false;
  #wake: (() => void) | undefined;

  /** Ends the wait, or the next one if there is none. */
  set(): void {
    this.#isSet = true;
    this.#wake?.();
  }

  /** Waits until it is set, or for `ms` milliseconds. */
  async wait(ms?: number): Promise<void> {
    if (!this.#isSet) {
      await new Promise<void>((resolve) => {
        const timer = ms === undefined ? undefined : setTimeout(resolve, Math.min(Math.max(0, ms), 0x7fff_ffff));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#wake = undefined;
    this.#isSet = false;
  }
}
