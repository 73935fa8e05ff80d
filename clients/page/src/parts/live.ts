// Views that follow a stream or read again at intervals.
import { useEffect, useState } from "preact/hooks";
import { epoch, explain } from "../api.js";
import { Unauthenticated, Unavailable } from "../client/errors.js";
import { readAfter } from "../logic/interval.js";
import { namespace } from "../router.js";
import { useValue } from "../value.js";

/**
 * Runs a task while the component is shown, again when `inputs`, the namespace or the key change. The task must end
 * when its signal is aborted.
 *
 * @returns the error that ended it. Undefined: none did.
 */
export function useTask(task: (signal: AbortSignal) => Promise<void>, inputs: readonly unknown[]): string | undefined {
  const [fault, setFault] = useState<string | undefined>(undefined);
  const place = useValue(namespace);
  const age = useValue(epoch);
  useEffect(() => {
    const abort = new AbortController();
    setFault(undefined);
    task(abort.signal).catch((error: unknown) => {
      // A key is asked for in a dialog of its own.
      if (!abort.signal.aborted && !(error instanceof Unauthenticated)) {
        setFault(explain(error));
      }
    });
    return () => abort.abort(new Error("the view was left"));
  }, [place, age, ...inputs]);
  return fault;
}

/**
 * Repeats a read until the signal is aborted, also while the server is away. Nothing is read in a hidden tab, and what takes
 * long is read less often.
 */
export async function everyFew(intervalMs: number, signal: AbortSignal, read: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    const begin = performance.now();
    try {
      await read();
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      if (!(error instanceof Unavailable)) {
        throw error;
      }
    }
    await pause(readAfter(intervalMs, performance.now() - begin), signal);
  }
}

/** Waits, and for a hidden tab until it is shown. Returns at once when the signal is aborted. */
function pause(intervalMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    const look = () => document.hidden || done();
    const timer = setTimeout(() => {
      if (document.hidden) {
        document.addEventListener("visibilitychange", look);
      } else {
        done();
      }
    }, intervalMs);
    signal.addEventListener("abort", done);
    if (signal.aborted) {
      done();
    }
  });
}
