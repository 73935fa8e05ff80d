// Retries of calls.
import { Conflict, DeadlineExceeded, type InterlockError, ResourceExhausted, Unavailable } from "./errors.js";

/**
 * Full jitter: the wait before retry n is random between 0 and `min(longestMs, firstMs * 2 ** n)`. If the server
 * asks for a wait, the random wait is added to it, so that clients refused together do not come back together.
 */
export class Backoff {
  readonly firstMs: number;
  readonly longestMs: number;

  constructor(options: { readonly firstMs?: number | undefined; readonly longestMs?: number | undefined } = {}) {
    this.firstMs = options.firstMs ?? 100;
    this.longestMs = options.longestMs ?? 5_000;
  }

  /** Milliseconds before retry number `retry`, from 0. `askedMs`: wait that the server asks for. */
  waitMs(retry: number, askedMs: number | undefined): number {
    const bound = Math.min(this.longestMs, this.firstMs * 2 ** Math.min(retry, 30));
    return (askedMs ?? 0) + Math.random() * bound;
  }
}

/** Whether a retry of the call, which must be safe to repeat, can succeed. */
export function canBeRepeated(error: InterlockError): boolean {
  if (error instanceof Unavailable) {
    // OUTCOME_UNKNOWN forbids retries of calls without a request id. All calls of this package are safe to repeat.
    return !error.retryForbidden || error.reason === "OUTCOME_UNKNOWN";
  }
  return (error instanceof Conflict || error instanceof ResourceExhausted) && !error.retryForbidden;
}

/**
 * Repeats a call until it succeeds, fails permanently, or its time is over. The call must be safe to repeat.
 *
 * @param attempt makes the call; gets the remaining milliseconds. Only an `InterlockError` can lead to a retry.
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
      // The timeout passed during a retry; the error before it says more.
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

/** Callbacks for the abort of a signal. One listener serves all: Node warns of a leak above ten listeners. */
const callbacks = new WeakMap<AbortSignal, Set<() => void>>();

/** Registers a callback for the abort of a signal that is not aborted yet. Returns a function that removes it. */
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
 * A signal that is aborted with the first of several, and `unlink`, to be called after use: long-lived signals would
 * hold references to all signals linked to them.
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

/** An event that one loop waits for and others set. */
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
