// Calls and streams of the server that this page came from.

import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create, type DescMessage, type DescMethodServerStreaming, type DescMethodUnary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { fromConnectError, InterlockError, PermissionDenied, Unauthenticated, Unavailable } from "./client/errors.js";
import { Backoff, repeat } from "./client/retry.js";
import { Stream } from "./client/stream.js";
import { namespace } from "./router.js";
import { Value } from "./value.js";

const KEY = "interlock-key";
const CALL_MS = 15_000;

/** State of the connection to the server. */
export type Connection =
  | { readonly state: "connecting" }
  | { readonly state: "live" }
  | { readonly state: "cut"; readonly since: number; readonly why: string };

export const connection = new Value<Connection>({ state: "connecting" });
/** Why a key is needed. Undefined: none is. */
export const keyNeeded = new Value<string | undefined>(undefined);
/** Grows when calls can have other results: after another key. Views begin again. */
export const epoch = new Value(0);
/** Whether the tab has a key. */
export const hasKey = new Value(readKey() !== undefined);

const transport = createConnectTransport({ baseUrl: location.origin, useBinaryFormat: true });
const backoff = new Backoff({ firstMs: 200, longestMs: 3_000 });

/** Keeps the key for this tab. Undefined: forgets it. */
export function storeKey(key: string | undefined): void {
  if (key === undefined) {
    sessionStorage.removeItem(KEY);
  } else {
    sessionStorage.setItem(KEY, key);
  }
  hasKey.set(key !== undefined);
  keyNeeded.set(undefined);
  epoch.set(epoch.get() + 1);
}

function readKey(): string | undefined {
  return sessionStorage.getItem(KEY) ?? undefined;
}

function headers(): Headers {
  const all = new Headers({ "interlock-namespace": namespace.get() });
  const key = readKey();
  if (key !== undefined) {
    all.set("authorization", `Bearer ${key}`);
  }
  return all;
}

/**
 * Calls an rpc. Mutations get a request id and are repeated while the server is not reachable.
 *
 * @throws InterlockError
 */
export async function call<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  signal: AbortSignal = new AbortController().signal,
): Promise<MessageShape<O>> {
  const message = create(method.input, request);
  const isMutation = method.input.field.requestId !== undefined;
  if (isMutation) {
    Object.assign(message, { requestId: uuid() });
  }
  const attempt = async (leftMs: number) => {
    const response = await transport.unary(method, signal, Math.ceil(leftMs), headers(), message);
    return response.message;
  };
  try {
    const response = isMutation
      ? await repeat(attempt, asError, { timeoutMs: CALL_MS, backoff, signal })
      : await attempt(CALL_MS);
    connected();
    return response;
  } catch (thrown) {
    signal.throwIfAborted();
    throw noticed(asError(thrown));
  }
}

/** A stream that is started again, without end, when it breaks. `request` is called for each start. */
export function openStream<I extends DescMessage, O extends DescMessage>(
  method: DescMethodServerStreaming<I, O>,
  request: () => MessageInitShape<I>,
  signal: AbortSignal,
): Stream<MessageShape<O>> {
  async function* begin(stop: AbortSignal, began: () => void): AsyncGenerator<MessageShape<O>, void> {
    try {
      const message = once(create(method.input, request()));
      const response = await transport.stream(method, stop, undefined, headers(), message);
      began();
      for await (const item of response.message) {
        connected();
        yield item;
      }
    } catch (thrown) {
      throw stop.aborted || signal.aborted ? stop.reason : noticed(asError(thrown));
    }
  }
  return new Stream(begin, backoff, () => {}, {
    patienceMs: Number.POSITIVE_INFINITY,
    closing: signal,
  });
}

async function* once<T>(message: T): AsyncGenerator<T, void> {
  yield message;
}

/** Codes by which `fetch` and proxies say that no server answered, if no reason of the server comes with them. */
const BROKEN = [Code.Unknown, Code.Internal, Code.Canceled, Code.Aborted, Code.Unavailable, Code.DeadlineExceeded];

function asError(thrown: unknown): InterlockError {
  if (thrown instanceof InterlockError) {
    return thrown;
  }
  const error = fromConnectError(ConnectError.from(thrown));
  if (error.reason === "" && BROKEN.includes(error.code)) {
    // This page came from the server, so it is only away.
    return new Unavailable(Code.Unavailable, error.rawMessage, { cause: thrown });
  }
  return error;
}

function noticed(error: InterlockError): InterlockError {
  if (error instanceof Unavailable) {
    const known = connection.get();
    const since = known.state === "cut" ? known.since : Date.now();
    connection.set({ state: "cut", since, why: error.reason === "" ? "The server does not answer" : error.rawMessage });
  } else {
    connected();
  }
  if (error instanceof Unauthenticated) {
    keyNeeded.set(readKey() === undefined ? "This server needs an API key." : error.rawMessage);
  }
  return error;
}

function connected(): void {
  if (connection.get().state !== "live") {
    connection.set({ state: "live" });
  }
}

/** What an error means, for people. */
export function explain(error: unknown): string {
  if (error instanceof PermissionDenied) {
    const roles = error.roles.split(",").filter((role) => role !== "");
    const needed = roles.length === 0 ? "" : ` It needs one of these roles: ${roles.join(", ").toLowerCase()}.`;
    return `Your key does not permit this.${needed}`;
  }
  if (error instanceof InterlockError) {
    const fields = error.violations.map(({ field, description }) => `${field}: ${description}`);
    return fields.length === 0 ? error.rawMessage : fields.join("; ");
  }
  return error instanceof Error ? error.message : String(error);
}

/** A random UUID, also on pages without TLS, where browsers have no `crypto.randomUUID`. */
function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
