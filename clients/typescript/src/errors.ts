// Errors by the reason that the server sends in `google.rpc.ErrorInfo`. The class says what to do; `reason` is the
// exact reason of the protos.
import { Code, ConnectError } from "@connectrpc/connect";
import { milliseconds } from "./documents.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import { PermitBlockReason, type PermitDenial } from "./gen/interlock/v1/permit_pb.js";
import type { ImportResult } from "./segment_import.js";

export { Code };

const DOMAIN = "interlock";
const PUSHBACK = "grpc-retry-pushback-ms";

/** A fault of one field of a request. */
export interface FieldViolation {
  /** The path of the field, such as `stages[0].name`. */
  readonly field: string;
  readonly description: string;
}

/** Options of an `InterlockError`. */
export interface ErrorParts {
  readonly reason?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly retryForbidden?: boolean | undefined;
  readonly violations?: readonly FieldViolation[] | undefined;
  readonly cause?: unknown | undefined;
}

/** A call failed. Base of all errors that a call throws. */
export class InterlockError extends Error {
  /** The gRPC status. */
  readonly code: Code;
  /** The message without the reason in front of it. */
  readonly rawMessage: string;
  /** The reason, such as `JOB_NOT_FOUND`. Empty: the error is not the server's, such as a refused connection. */
  readonly reason: string;
  /** Further values from the server, such as `outcome`, `actual` or `state`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Milliseconds to wait before the same call can succeed. Undefined: not known. */
  readonly retryAfterMs: number | undefined;
  /** Whether a call that is not safe to repeat must not be repeated. */
  readonly retryForbidden: boolean;
  /** Faults of fields. Empty unless the request is invalid. */
  readonly violations: readonly FieldViolation[];
  #imported: ImportResult | undefined;

  constructor(code: Code, message: string, parts: ErrorParts = {}) {
    super(`${parts.reason || statusName(code)}: ${message}`, { cause: parts.cause });
    this.name = new.target.name;
    this.code = code;
    this.rawMessage = message;
    this.reason = parts.reason ?? "";
    this.metadata = parts.metadata ?? {};
    this.retryAfterMs = parts.retryAfterMs;
    this.retryForbidden = parts.retryForbidden ?? false;
    this.violations = parts.violations ?? [];
  }

  /** Whether a write may have been applied. A repeat with the same request id shows it. */
  get maybeApplied(): boolean {
    return this.metadata.outcome !== "NOT_APPLIED";
  }

  /**
   * What became of the segments before the error of `Session.import`: those are stored, and of the next ones some may
   * be. Import all again: those that are stored are not stored twice. Undefined: another call failed.
   */
  get imported(): ImportResult | undefined {
    return this.#imported;
  }

  /** @internal Notes how far an import came. */
  stoppedImport(imported: ImportResult): void {
    this.#imported = imported;
    const stored = imported.applied + imported.unchanged;
    this.message += ` (${stored} segments of the import are stored; some of those that follow may be)`;
  }
}

/** The request is wrong; `violations` names the fields. Also a request id that was used for another request. */
export class InvalidArgument extends InterlockError {}

/** The API key or client certificate is missing, unknown, expired or revoked. */
export class Unauthenticated extends InterlockError {}

/** The credential is valid and does not permit this call. */
export class PermissionDenied extends InterlockError {
  /** The roles of which one is needed, separated by commas. Empty: not known. */
  get roles(): string {
    return this.metadata.roles ?? "";
  }
}

/** The job, stage, record, resource, session, segment or namespace does not exist; `reason` says which. */
export class NotFound extends InterlockError {}

/** An object with this name exists already. */
export class AlreadyExists extends InterlockError {}

/** The state does not allow the call. */
export class PreconditionFailed extends InterlockError {}

/** The lease is not the newest of its stage: stop the work. */
export class LeaseLost extends PreconditionFailed {}

/** The permit has expired or was revoked, and another holder may have one: stop the work. */
export class PermitLost extends PreconditionFailed {}

/** The job, stage, session or segment is in a state that does not allow the call. */
export class InvalidTransition extends PreconditionFailed {
  /** The current state, such as `SUCCEEDED`. Empty: not known. */
  get state(): string {
    return this.metadata.state ?? "";
  }
}

/** The version is not the expected one: read again and decide again. */
export class VersionMismatch extends InterlockError {
  /** The current version. */
  get actual(): bigint {
    return BigInt(this.metadata.actual ?? 0);
  }
}

/** The job has not reached the version given as known, so it is another job with the same id. */
export class VersionInFuture extends InterlockError {
  /** The current version. */
  get actual(): bigint {
    return BigInt(this.metadata.actual ?? 0);
  }
}

/** The call lost to concurrent writes until its timeout. */
export class Conflict extends InterlockError {}

/** The server is overloaded, or a limit of this client is reached. */
export class ResourceExhausted extends InterlockError {}

/** The deadline passed; `maybeApplied` says whether a write may have happened. */
export class DeadlineExceeded extends InterlockError {}

/** No server answers, the server is draining, or it has lost its database. */
export class Unavailable extends InterlockError {}

/** A bug in the server; the message has an id that is also in the log of the server. */
export class Internal extends InterlockError {}

/** A resource that blocks a permit. */
export interface PermitBlocker {
  readonly resource: string;
  readonly reason: PermitBlockReason;
  /** Milliseconds until RATE, INTERVAL or BREAKER_OPEN is over, or the first permit expires. Undefined: not known. */
  readonly retryAfterMs: number | undefined;
}

/** The permit was not granted within the wait; `blockers` names each resource that blocks it. */
export class PermitDenied extends InterlockError {
  readonly blockers: readonly PermitBlocker[];

  constructor(denial: PermitDenial) {
    const blockers = denial.blockers.map((blocker) => ({
      resource: blocker.resource,
      reason: blocker.reason,
      retryAfterMs: blocker.retryAfter && milliseconds(blocker.retryAfter),
    }));
    const retryAfterMs = denial.retryAfter && milliseconds(denial.retryAfter);
    const names = blockers.map((blocker) => `${blocker.resource} ${PermitBlockReason[blocker.reason] ?? "UNKNOWN"}`);
    const after = retryAfterMs === undefined ? "" : `; try again in ${Math.ceil(retryAfterMs / 100) / 10} s`;
    super(Code.ResourceExhausted, `${names.join(", ")}${after}`, {
      reason: "PERMIT_DENIED",
      metadata: { outcome: "NOT_APPLIED" },
      retryAfterMs,
    });
    this.blockers = blockers;
  }
}

type ErrorClass = new (code: Code, message: string, parts?: ErrorParts) => InterlockError;

const BY_REASON: Readonly<Record<string, ErrorClass>> = {
  LEASE_LOST: LeaseLost,
  PERMIT_LOST: PermitLost,
  INVALID_TRANSITION: InvalidTransition,
  VERSION_MISMATCH: VersionMismatch,
  CONFLICT: Conflict,
  VERSION_IN_FUTURE: VersionInFuture,
};

const BY_CODE: Readonly<Partial<Record<Code, ErrorClass>>> = {
  [Code.InvalidArgument]: InvalidArgument,
  [Code.Unauthenticated]: Unauthenticated,
  [Code.PermissionDenied]: PermissionDenied,
  [Code.NotFound]: NotFound,
  [Code.AlreadyExists]: AlreadyExists,
  [Code.FailedPrecondition]: PreconditionFailed,
  [Code.ResourceExhausted]: ResourceExhausted,
  [Code.DeadlineExceeded]: DeadlineExceeded,
  [Code.Unavailable]: Unavailable,
  [Code.Internal]: Internal,
};

/** The typed error for an error of the transport. */
export function fromConnectError(error: ConnectError): InterlockError {
  const info = error.findDetails(ErrorInfoSchema).find((detail) => detail.domain === DOMAIN);
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const pushback = pushbackOf(error.metadata.get(PUSHBACK));
  const retryForbidden = pushback !== undefined && pushback < 0;
  const advised = delay && milliseconds(delay);
  const code = info === undefined && isBrokenConnection(error) ? Code.Unavailable : error.code;
  const kind = BY_REASON[info?.reason ?? ""] ?? BY_CODE[code] ?? InterlockError;
  return new kind(code, error.rawMessage, {
    reason: info?.reason,
    metadata: info?.metadata,
    retryAfterMs: retryForbidden ? advised : (pushback ?? advised),
    retryForbidden,
    violations: violations.map(({ field, description }) => ({ field, description })),
    cause: error,
  });
}

/** The typed error for a status that is part of a message. */
export function fromStatus(status: Status): InterlockError {
  const headers = { "grpc-status": String(status.code) };
  const error = new ConnectError(status.message, status.code, headers);
  error.details = status.details.map(({ typeUrl, value }) => ({ type: typeUrl.replace(/^.*\//, ""), value }));
  return fromConnectError(error);
}

/** The error of a call that ended because the client was closed. */
export function clientClosed(): InterlockError {
  return new InterlockError(Code.Canceled, "the client is closed");
}

/** The gRPC name of a status, such as `NOT_FOUND`. */
export function statusName(code: Code): string {
  return (Code[code] ?? `CODE_${code}`).replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

/**
 * Whether the connection ended below gRPC. A killed server ends calls as `canceled` or `aborted` in Node, other faults
 * of the connection as `internal`; none has a status of the server.
 */
function isBrokenConnection(error: ConnectError): boolean {
  if (error.metadata.has("grpc-status") || error.code === Code.DeadlineExceeded) {
    return false;
  }
  if (error.code === Code.Canceled || error.code === Code.Aborted) {
    return true;
  }
  return /^http\/2 stream|^protocol error: missing/.test(error.rawMessage) || hasSystemCode(error.cause);
}

/** Whether an error, or what caused it, comes from Node: these have a `code` such as `ECONNRESET`. */
function hasSystemCode(error: unknown): boolean {
  for (let depth = 0, cause = error; cause instanceof Error && depth < 8; depth += 1, cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") {
      return true;
    }
  }
  return false;
}

/** Milliseconds that the server asks to wait. A negative or unreadable value forbids retries. */
function pushbackOf(value: string | null): number | undefined {
  if (value === null) {
    return undefined;
  }
  return /^\d+$/.test(value) ? Number(value) : -1;
}
