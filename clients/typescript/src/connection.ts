// The connection to servers, and calls of any rpc through it.

import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import {
  create,
  type DescMessage,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { type AccessOptions, resolveAccess } from "./access.js";
import { clientClosed, DeadlineExceeded, fromConnectError, type InterlockError, Unavailable } from "./errors.js";
import { type Logger, silentLogger, stderrLogger } from "./log.js";
import { type Channel, openChannel } from "./node.js";
import { Outage } from "./outage.js";
import { Backoff, linked, repeat } from "./retry.js";
import { Stream, type StreamOptions } from "./stream.js";

/** The longest wait of one LeaseStages, WaitJob or AcquirePermit. Proxies close streams that are silent for 60 s. */
export const LONGEST_WAIT_MS = 50_000;
/** Margin of the deadline of such a call over its wait. */
export const WAIT_MARGIN_MS = 10_000;

/** Options of a `Client`. */
export interface ClientOptions extends AccessOptions {
  /** Milliseconds for one call, retries included, unless the call says otherwise. Undefined: 30,000. */
  readonly timeoutMs?: number | undefined;
  /** The waits between retries. Undefined: `new Backoff()`. */
  readonly backoff?: Backoff | undefined;
  /** Metadata sent with each call. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * Logger for background events. Undefined: stderr. Null: nothing is logged. A handler that blocks the event loop is
   * reported on stderr meanwhile, because no logger can run.
   */
  readonly log?: Logger | null | undefined;
}

/** Options of one call. */
export interface CallOptions {
  /** Milliseconds for the call, retries included. Undefined: `timeoutMs` of the client. */
  readonly timeoutMs?: number | undefined;
  /** Ends the call, which rejects with the signal's reason. A write may still have been applied. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of a read. */
export interface ReadOptions extends CallOptions {
  /** How old the answer may be, at most 60,000: it can then come from a read replica. Undefined: it is current. */
  readonly maxStalenessMs?: number | undefined;
}

/** One server and its state. */
interface Endpoint {
  readonly channel: Channel;
  readonly outage: Outage;
}

/** Base of `Client`: the connections, and calls with retries. */
export class Connection {
  /** Milliseconds for one call, retries included, unless the call says otherwise. */
  readonly timeoutMs: number;
  /** Logger for background events. */
  readonly log: Logger;
  readonly #endpoints: readonly Endpoint[];
  readonly #headers: Headers;
  readonly #backoff: Backoff;
  readonly #closing = new AbortController();
  #current = 0;

  /**
   * Prepares the connection; the first call opens it. While no server answers, calls are retried until their timeout,
   * and the log has one line, so a server that restarts, or starts later than this program, is found.
   *
   * @throws RangeError if an option can never work, such as an address without a port.
   */
  constructor(options: ClientOptions = {}) {
    this.log = options.log === null ? silentLogger : (options.log ?? stderrLogger);
    const access = resolveAccess(options, this.log);
    this.timeoutMs = options.timeoutMs ?? 30_000;
    this.#backoff = options.backoff ?? new Backoff();
    this.#endpoints = access.addresses.map((address) => {
      const channel = openChannel(address.target, access.tls);
      return { channel, outage: new Outage(address.text, this.log, channel.isOpen) };
    });
    this.#headers = new Headers(options.headers);
    if (access.namespace !== undefined) {
      this.#headers.set("interlock-namespace", access.namespace);
    }
    if (access.authorization !== undefined && !this.#headers.has("authorization")) {
      this.#headers.set("authorization", access.authorization);
    }
  }

  /** Closes the connections; calls and watches in flight end with an error. */
  async close(): Promise<void> {
    this.#closing.abort(clientClosed());
    for (const endpoint of this.#endpoints) {
      endpoint.outage.close();
      endpoint.channel.abort();
    }
  }

  /** As `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Calls any unary rpc, as in `client.call(JobService.method.pauseJob, { jobId })`. All retries carry the same request
   * id: that of the request, or a new one. UNAVAILABLE, CONFLICT and RESOURCE_EXHAUSTED are retried unless the server
   * forbids it.
   *
   * @throws InterlockError the error of the last try.
   * @throws Error if the request cannot be encoded, such as one with 1.5 in a field of whole numbers.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const message = withRequestId(method.input, create(method.input, request));
    return this.#repeated(options, async (endpoint, signal, leftMs) => {
      const { transport } = endpoint.channel;
      const unary = transport.unary(method, signal, Math.ceil(leftMs), this.#headers, message);
      const response = await unary.catch((thrown: unknown) => {
        // A message that cannot be encoded, such as one with 1.5 in a whole number, looks like a broken connection.
        toBinary(method.input, message);
        throw thrown;
      });
      endpoint.outage.end();
      return response.message;
    });
  }

  /** A client stream that is sent again as a whole when it fails. It must be safe to repeat. */
  protected async sendStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    messages: readonly MessageShape<I>[],
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return this.#repeated(options, async (endpoint, signal, leftMs) => {
      const { transport } = endpoint.channel;
      const timeoutMs = Math.ceil(leftMs);
      const response = await transport.stream(method, signal, timeoutMs, this.#headers, each(messages));
      let found: MessageShape<O> | undefined;
      // To its end, so that its timer ends too.
      for await (const message of response.message) {
        found = message;
      }
      if (found === undefined) {
        throw new ConnectError("the stream has no response", Code.Internal);
      }
      endpoint.outage.end();
      return found;
    });
  }

  /** Repeats a call until it succeeds, fails permanently, or its time is over; each try is made to the endpoint of its moment. */
  async #repeated<T>(
    options: CallOptions,
    once: (endpoint: Endpoint, signal: AbortSignal, leftMs: number) => Promise<T>,
  ): Promise<T> {
    const { signal, unlink } = linked(this.#closing.signal, options.signal);
    let endpoint = this.#endpoint();
    const attempt = (leftMs: number) => {
      endpoint = this.#endpoint();
      return once(endpoint, signal, leftMs);
    };
    const failed = (thrown: unknown) => this.#failed(endpoint, thrown);
    try {
      signal.throwIfAborted();
      const timeoutMs = options.timeoutMs ?? this.timeoutMs;
      return await repeat(attempt, failed, { timeoutMs, backoff: this.#backoff, signal });
    } finally {
      unlink();
    }
  }

  /** A server stream that is restarted when it breaks. `request` is called for each start. */
  protected openStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: () => MessageInitShape<I>,
    options: StreamOptions = {},
  ): Stream<MessageShape<O>> {
    const begin = async function* (this: Connection, signal: AbortSignal, began: () => void) {
      const endpoint = this.#endpoint();
      try {
        yield* this.#messages(endpoint, method, create(method.input, request()), signal, began);
      } catch (thrown) {
        throw signal.aborted ? signal.reason : this.#failed(endpoint, thrown);
      }
    };
    return new Stream(begin.bind(this), this.#backoff, () => this.#next(), {
      ...options,
      closing: this.#closing.signal,
    });
  }

  /** A server stream that is not resumed. The call is repeated only while no message came. */
  protected async *streamOnce<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    given?: AbortSignal,
  ): AsyncGenerator<MessageShape<O>, void> {
    const message = create(method.input, request);
    const left = new AbortController();
    const { signal, unlink } = linked(this.#closing.signal, given, left.signal);
    let endpoint = this.#endpoint();
    const failed = (thrown: unknown) => this.#failed(endpoint, thrown);
    const begin = async () => {
      endpoint = this.#endpoint();
      const messages = this.#messages(endpoint, method, message, signal, () => {});
      return { messages, first: await messages.next() };
    };
    try {
      signal.throwIfAborted();
      const options = { timeoutMs: this.timeoutMs, backoff: this.#backoff, signal };
      const { messages, first } = await repeat(begin, failed, options);
      for (let next = first; !next.done; next = await messages.next()) {
        yield next.value;
      }
    } catch (thrown) {
      signal.throwIfAborted();
      throw thrown instanceof ConnectError ? failed(thrown) : thrown;
    } finally {
      left.abort();
      unlink();
    }
  }

  async *#messages<I extends DescMessage, O extends DescMessage>(
    endpoint: Endpoint,
    method: DescMethodServerStreaming<I, O>,
    message: MessageShape<I>,
    signal: AbortSignal,
    began: () => void,
  ): AsyncGenerator<MessageShape<O>, void> {
    const transport: Transport = endpoint.channel.transport;
    const response = await transport.stream(method, signal, undefined, this.#headers, once(message));
    began();
    for await (const item of response.message) {
      endpoint.outage.end();
      yield item;
    }
  }

  #endpoint(): Endpoint {
    // The list is never empty.
    return this.#endpoints[this.#current % this.#endpoints.length] as Endpoint;
  }

  /** Uses the next server from now on. */
  #next(): void {
    this.#current = (this.#current + 1) % this.#endpoints.length;
  }

  #failed(endpoint: Endpoint, thrown: unknown): InterlockError {
    if (!(thrown instanceof ConnectError)) {
      throw thrown;
    }
    const error = endpoint.outage.notice(fromConnectError(thrown));
    const isAway = error instanceof Unavailable || (error instanceof DeadlineExceeded && error.reason === "");
    if (isAway && endpoint === this.#endpoint()) {
      this.#next();
    }
    return error;
  }
}

/** A copy of the message with a new request id, if its field for one is unset. The server refuses an empty id. */
export function withRequestId<I extends DescMessage>(schema: I, message: MessageShape<I>): MessageShape<I> {
  if (schema.field.requestId === undefined || ("requestId" in message && message.requestId !== undefined)) {
    return message;
  }
  if ("allOrNone" in message && !message.allOrNone) {
    // CompleteStages: each outcome has a request id of its own.
    return message;
  }
  return { ...message, requestId: crypto.randomUUID() };
}

async function* once<T>(message: T): AsyncGenerator<T, void> {
  yield message;
}

async function* each<T>(messages: readonly T[]): AsyncGenerator<T, void> {
  yield* messages;
}
