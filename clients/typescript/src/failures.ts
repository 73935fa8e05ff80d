// Failures: errors of handlers and of bodies of permits, and the class of each.
import { create } from "@bufbuild/protobuf";
import { cut, DOCUMENT_BYTES, toDocument, toDuration } from "./documents.js";
import { PermitDenied } from "./errors.js";
import { type Failure, FailureClass, FailureSchema } from "./gen/interlock/v1/common_pb.js";

export { FailureClass };

// Limits of the server.
const MESSAGE_BYTES = 4096;
const CODE_BYTES = 128;
const LONGEST_RETRY_MS = 86_400_000;
/** Bytes of the beginning of a stack trace that the details of a failure hold; `interlock job get` shows them. */
const TRACE_BYTES = 4096;
/** Longest chain of causes that is followed. */
const CAUSES = 8;

/** Options of a failure besides its class and message. */
export interface StageErrorOptions {
  /** Wait that a called service asked for, 0 to 24 h. Undefined: not known. */
  readonly retryAfterMs?: number | undefined;
  /** Application code, at most 128 bytes. Undefined: none. */
  readonly code?: string | undefined;
  /** Further facts, at most 64 KiB as JSON. Undefined: none. */
  readonly details?: object | undefined;
  readonly cause?: unknown | undefined;
}

/**
 * Thrown by a handler, or in the body of a permit, to report a failure with a class. Options that the server would
 * refuse are left out or shortened when the failure is reported, and the message names them.
 */
export class StageError extends Error {
  /** Class that decides the retry, and that permits report. */
  readonly failureClass: FailureClass;
  readonly retryAfterMs: number | undefined;
  readonly code: string;
  readonly details: object | undefined;

  /** @param message text for people, cut off at 4 KiB. */
  constructor(failureClass: FailureClass, message: string, options: StageErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = new.target.name;
    this.failureClass = failureClass;
    this.retryAfterMs = options.retryAfterMs;
    this.code = options.code ?? "";
    this.details = options.details;
  }
}

/** A called service failed, like HTTP 5xx. */
export class ServerError extends StageError {
  constructor(message: string, options: StageErrorOptions = {}) {
    super(FailureClass.SERVER_ERROR, message, options);
  }
}

/** A called service asked to slow down, like HTTP 429. */
export class RateLimited extends StageError {
  constructor(message: string, options: StageErrorOptions = {}) {
    super(FailureClass.RATE_LIMITED, message, options);
  }
}

/** The members of a `Response` that this package reads. */
export interface HttpResponse {
  readonly ok: boolean;
  readonly status: number;
  readonly statusText: string;
  readonly url: string;
  readonly headers: { get(name: string): string | null };
}

/**
 * Returns the response if its status is 2xx, as in `const reply = expectOk(await fetch(url, { signal }))`.
 *
 * @throws StageError: see `failureOfResponse`.
 */
export function expectOk<R extends HttpResponse>(response: R): R {
  if (!response.ok) {
    throw failureOfResponse(response);
  }
  return response;
}

/**
 * The failure for an HTTP status: 429 RATE_LIMITED, 408 TIMEOUT, 500 and above SERVER_ERROR, all else
 * CLIENT_ERROR, which is not retried. `Retry-After` is honoured, in seconds or as a date. The code is the status.
 *
 * @param message Undefined: the status and the address without its query.
 */
export function failureOfResponse(response: HttpResponse, message?: string): StageError {
  const { status } = response;
  const address = response.url.split("?")[0];
  const text = message ?? `HTTP ${status} ${response.statusText}`.trimEnd() + (address ? ` from ${address}` : "");
  const options = { code: String(status), retryAfterMs: retryAfterOf(response.headers.get("retry-after")) };
  if (status === 429) {
    return new RateLimited(text, options);
  }
  if (status >= 500) {
    return new ServerError(text, options);
  }
  return new StageError(status === 408 ? FailureClass.TIMEOUT : FailureClass.CLIENT_ERROR, text, options);
}

/** Milliseconds of a `Retry-After` header. Undefined: there is none, or it cannot be read. */
function retryAfterOf(header: string | null): number | undefined {
  if (header === null || header.trim() === "") {
    return undefined;
  }
  const ms = /^\s*\d+(\.\d+)?\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), LONGEST_RETRY_MS);
}

/**
 * The failure for a thrown value. Never throws: values that the server would refuse are left out or shortened, and the
 * message names them.
 */
export function failureOf(thrown: unknown): Failure {
  const notes: string[] = [];
  if (thrown instanceof StageError) {
    const failure = newFailure(knownClass(thrown.failureClass, notes), textOf(thrown), String(thrown.code));
    setRetryAfter(failure, thrown.retryAfterMs, notes);
    setDetails(failure, thrown.details, notes);
    return withNotes(failure, notes);
  }
  if (thrown instanceof PermitDenied) {
    // The called services did not fail: INTERNAL does not count against the resources of other permits.
    const failure = newFailure(FailureClass.INTERNAL, thrown.message, thrown.reason);
    setRetryAfter(failure, thrown.retryAfterMs, notes);
    return withNotes(failure, notes);
  }
  const name = thrown instanceof Error ? thrown.name : typeof thrown;
  const failure = newFailure(classOf(thrown), `${name}: ${textOf(thrown)}`, name);
  setDetails(failure, { traceback: traceOf(thrown) }, notes);
  return withNotes(failure, notes);
}

/** A failure with message and code cut to the limits of the server. */
export function newFailure(failureClass: FailureClass, message: string, code = ""): Failure {
  return create(FailureSchema, {
    failureClass,
    message: cut(message, MESSAGE_BYTES),
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced.
    code: cut(code.replace(/[\u0000-\u001f\u007f-\u009f]/g, " "), CODE_BYTES),
  });
}

/** The failure with notes about missing values at the end of its message. */
export function withNotes(failure: Failure, notes: readonly string[]): Failure {
  const note = cut(notes.join("; "), MESSAGE_BYTES / 4);
  if (note !== "") {
    const room = MESSAGE_BYTES - new TextEncoder().encode(note).length - 3;
    const message = cut(failure.message, room);
    failure.message = message === "" ? note : `${message} (${note})`;
  }
  return failure;
}

/** The text of a thrown value. Never throws. */
export function textOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? String(thrown.message) : String(thrown);
  } catch {
    return "a value that cannot be shown";
  }
}

/** The stack traces of a thrown value and its causes, or its text. Never throws. */
export function stackOf(thrown: unknown): string {
  try {
    return causesOf(thrown)
      .map((cause) => (cause instanceof Error && typeof cause.stack === "string" ? cause.stack : textOf(cause)))
      .join("\ncaused by: ");
  } catch {
    return textOf(thrown);
  }
}

/** A thrown value and its chain of causes, with the errors of each AggregateError. */
export function causesOf(thrown: unknown): unknown[] {
  const causes: unknown[] = [];
  for (let cause = thrown; cause !== undefined && causes.length < CAUSES && !causes.includes(cause); ) {
    causes.push(cause);
    if (cause instanceof AggregateError) {
      causes.push(...cause.errors.slice(0, CAUSES));
    }
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return causes;
}

const TIMEOUTS = /^(ETIMEDOUT|ESOCKETTIMEDOUT|ERR_SOCKET_CONNECTION_TIMEOUT|UND_ERR_(CONNECT|HEADERS|BODY)_TIMEOUT)$/;
const NETWORK =
  /^(ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_SOCKET)$/;

/** The class for errors of Node and `fetch`. Any other error counts as a bug of the worker. */
function classOf(thrown: unknown): FailureClass {
  const causes = causesOf(thrown);
  const codes = causes.map((cause) => (cause instanceof Error && "code" in cause ? String(cause.code) : ""));
  const isTimeout = causes.some((cause) => cause instanceof Error && cause.name === "TimeoutError");
  if (isTimeout || codes.some((code) => TIMEOUTS.test(code))) {
    return FailureClass.TIMEOUT;
  }
  return codes.some((code) => NETWORK.test(code)) ? FailureClass.NETWORK : FailureClass.INTERNAL;
}

function knownClass(given: FailureClass, notes: string[]): FailureClass {
  if (FailureClass[given] === undefined || given === FailureClass.LEASE_EXPIRED || given === FailureClass.UNSPECIFIED) {
    notes.push(`failureClass was ${String(given)}, which a worker cannot report, and became INTERNAL`);
    return FailureClass.INTERNAL;
  }
  return given;
}

function setRetryAfter(failure: Failure, given: number | undefined, notes: string[]): void {
  if (given === undefined) {
    return;
  }
  if (typeof given !== "number" || Number.isNaN(given)) {
    notes.push("retryAfterMs was no number and was left out");
    return;
  }
  const bounded = Math.min(Math.max(0, given), LONGEST_RETRY_MS);
  if (bounded !== given) {
    notes.push(`retryAfterMs was ${given} and became ${bounded}`);
  }
  failure.retryAfter = toDuration(bounded, "retryAfterMs");
}

function setDetails(failure: Failure, given: object | undefined, notes: string[]): void {
  if (given === undefined) {
    return;
  }
  try {
    failure.details = toDocument(given, DOCUMENT_BYTES);
  } catch (error) {
    notes.push(`details were left out: ${textOf(error)}`);
  }
}

/** The beginning of a stack trace, which has the failing line. */
function traceOf(thrown: unknown): string {
  return cut(stackOf(thrown), TRACE_BYTES);
}
