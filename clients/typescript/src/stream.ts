// Streams of updates that are restarted when they break.
import { Code } from "@connectrpc/connect";
import { DeadlineExceeded, InterlockError, ResourceExhausted, Unavailable } from "./errors.js";
import { type Backoff, linked, onAbort, sleep } from "./retry.js";

/** Three times the default keepalive of the server (20 s). */
const SILENCE_MS = 60_000;
/** Longer than a failover of the database or a restart of a server takes. */
const PATIENCE_MS = 120_000;
/** Time after which a stream counts as working even without a message, so that its end is a new failure. */
const STOOD_MS = 5_000;

/** Options of all watches. */
export interface StreamOptions {
  /**
   * Milliseconds without a message after which a stream is closed and resumed. Undefined: 60,000, three times the
   * default of the server's `--watch-keepalive`.
   */
  readonly silenceMs?: number | undefined;
  /** Milliseconds of failed resumes in a row before the error is thrown. Infinity: no limit. Undefined: 120,000. */
  readonly patienceMs?: number | undefined;
  /** Ends the watch; the iterator then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** The server sent a message that does not follow from the ones before. */
export class ChainBroken extends Error {}

/**
 * Whether a stream with this error is to be restarted. Proxies and stopping servers also end streams with CANCELLED,
 * UNKNOWN or INTERNAL, without a reason of Interlock. If no message ever came, such an error rather means a wrong
 * address or proxy, which retries would only hide.
 */
export function canBeResumed(error: InterlockError, hasWorked: boolean): boolean {
  if (error instanceof Unavailable) {
    return !error.retryForbidden;
  }
  if (error instanceof ResourceExhausted) {
    // Without a time to retry it is a fixed limit, which a wait does not change.
    return error.retryAfterMs !== undefined && !error.retryForbidden;
  }
  const broken = [Code.Canceled, Code.Unknown, Code.Internal];
  return error instanceof DeadlineExceeded || (hasWorked && broken.includes(error.code) && error.reason === "");
}

/** Starts a call of the rpc. `began` is called when the server starts to answer. */
export type Begin<T> = (signal: AbortSignal, began: () => void) => AsyncIterator<T, void>;

/** One call of the rpc. */
interface Opening<T> {
  readonly messages: AsyncIterator<T, void>;
  readonly abort: AbortController;
  /** Time when the server started to answer. */
  standsSince: number | undefined;
}

/** Result of a read. */
type Read<T> =
  | { readonly kind: "message"; readonly message: T }
  | { readonly kind: "end" }
  | { readonly kind: "failed"; readonly error: unknown }
  | { readonly kind: "silence" };

/** A stream restarted when it breaks, after a random wait plus the one the server asks for. One reader at a time. */
export class Stream<T> {
  readonly #begin: Begin<T>;
  readonly #backoff: Backoff;
  readonly #tryNextServer: () => void;
  readonly #silenceMs: number;
  readonly #patienceMs: number;
  readonly #closed = new AbortController();
  readonly #unlink: () => void;
  #opening: Opening<T> | undefined;
  #hasWorked = false;
  #retry = 0;
  #failingSince: number | undefined;
  #notBefore = 0;

  constructor(
    begin: Begin<T>,
    backoff: Backoff,
    tryNextServer: () => void,
    options: StreamOptions & { readonly closing: AbortSignal },
  ) {
    this.#begin = begin;
    this.#backoff = backoff;
    this.#tryNextServer = tryNextServer;
    this.#silenceMs = options.silenceMs ?? SILENCE_MS;
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
    const { signal, unlink } = linked(options.closing, options.signal);
    this.#unlink = unlink;
    const close = () => {
      this.#closed.abort(new CloseReason("closed", { cause: signal.reason }));
      this.#drop();
    };
    if (signal.aborted) {
      close();
    } else {
      onAbort(signal, close);
    }
  }

  /** Whether it was closed, by its reader or with the client. */
  get isClosed(): boolean {
    return this.#closed.signal.aborted;
  }

  /**
   * The next message. Undefined: the server ended the stream with OK, or its reader closed it.
   *
   * @throws InterlockError if the stream cannot be resumed, or not within `patienceMs`.
   */
  async read(): Promise<T | undefined> {
    for (;;) {
      const opening = this.#opening ?? (await this.#open());
      if (opening === undefined) {
        return this.#ended();
      }
      const read = await this.#readFrom(opening);
      if (this.isClosed) {
        return this.#ended();
      }
      switch (read.kind) {
        case "message":
          return read.message;
        case "end":
          this.#drop();
          return undefined;
        case "silence":
          opening.standsSince = undefined;
          this.#tryNextServer();
          this.broke(`nothing was heard for ${this.#silenceMs / 1000} s`);
          break;
        case "failed":
          this.#failed(read.error);
      }
    }
  }

  /** As `read`, for endless streams: a stream that the server ends is restarted. Undefined: it was closed. */
  async readOn(): Promise<T | undefined> {
    for (;;) {
      const message = await this.read();
      if (message !== undefined || this.isClosed) {
        return message;
      }
      this.broke("the stream ended");
    }
  }

  /** Marks the last message as in order; earlier failures do not count any more. */
  confirm(): void {
    this.#hasWorked = true;
    this.#retry = 0;
    this.#failingSince = undefined;
  }

  /** Marks the stream as inconsistent; the next read restarts it. */
  broke(why: string): void {
    this.#failed(new Unavailable(Code.Unavailable, why));
  }

  /** Ends the stream; reads return undefined. */
  close(): void {
    this.#closed.abort();
    this.#unlink();
    this.#drop();
  }

  async #open(): Promise<Opening<T> | undefined> {
    const wait = this.#notBefore - performance.now();
    if (wait > 0) {
      await sleep(wait, this.#closed.signal).catch(() => {});
    }
    if (this.isClosed) {
      return undefined;
    }
    const abort = new AbortController();
    const began = () => {
      opening.standsSince = performance.now();
    };
    const opening: Opening<T> = { messages: this.#begin(abort.signal, began), abort, standsSince: undefined };
    this.#opening = opening;
    return opening;
  }

  #readFrom(opening: Opening<T>): Promise<Read<T>> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => done({ kind: "silence" }), Math.min(this.#silenceMs, 0x7fff_ffff));
      const unlink = onAbort(this.#closed.signal, () => done({ kind: "end" }));
      const done = (read: Read<T>) => {
        clearTimeout(timer);
        unlink();
        resolve(read);
      };
      opening.messages.next().then(
        (result) => done(result.done ? { kind: "end" } : { kind: "message", message: result.value }),
        (error: unknown) => done({ kind: "failed", error }),
      );
    });
  }

  #failed(thrown: unknown): void {
    const now = performance.now();
    const standsSince = this.#opening?.standsSince;
    if (standsSince !== undefined && now - standsSince > STOOD_MS) {
      this.confirm();
    }
    this.#drop();
    if (!(thrown instanceof InterlockError) || !canBeResumed(thrown, this.#hasWorked)) {
      this.close();
      throw thrown;
    }
    const wait = this.#backoff.waitMs(this.#retry, thrown.retryAfterMs);
    this.#retry += 1;
    this.#failingSince ??= now;
    if (now + wait - this.#failingSince > this.#patienceMs) {
      this.close();
      throw thrown;
    }
    this.#notBefore = now + wait;
  }

  #drop(): void {
    this.#opening?.abort.abort();
    this.#opening = undefined;
  }

  /** Returns undefined if the reader has closed the stream. @throws the reason if it was closed otherwise. */
  #ended(): undefined {
    this.#drop();
    const { reason } = this.#closed.signal;
    if (reason instanceof CloseReason) {
      throw reason.cause;
    }
    return undefined;
  }
}

/** Marks a stream closed by the client or the caller's signal, not by its reader. */
class CloseReason extends Error {}

/** An async iterator of updates. Leaving the `for await` ends the stream, and so does `close`. */
export abstract class Watch<T> implements AsyncIterableIterator<T> {
  /** The next update. `done`: the watch has ended. */
  async next(): Promise<IteratorResult<T, undefined>> {
    const value = await this.read();
    return value === undefined ? { done: true, value: undefined } : { done: false, value };
  }

  /** Called by `for await` when its body exits early. */
  async return(): Promise<IteratorResult<T, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Ends the stream; a reader that waits for an update sees the end. */
  abstract close(): void;

  /** The next update. Undefined: the watch has ended. */
  protected abstract read(): Promise<T | undefined>;
}
