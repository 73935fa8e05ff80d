// The stage as a handler sees it, and the outcome that it returns.
import { create } from "@bufbuild/protobuf";
import { cut, type JsonObject, milliseconds } from "./documents.js";
import type { Failure } from "./gen/interlock/v1/common_pb.js";
import { StageState } from "./gen/interlock/v1/job_pb.js";
import { type Lease, type LeaseRenewal, LeaseRenewalSchema } from "./gen/interlock/v1/worker_service_pb.js";
import type { CommitRequestPart } from "./records.js";
import type { StageOptions } from "./stages.js";

/**
 * Reason why a handler has to stop: its lease is lost; its job is being cancelled or has failed; the worker is shutting
 * down.
 */
export type StopReason = "lost" | "cancelled" | "shutdown";

const STOP_MESSAGES: Readonly<Record<StopReason, string>> = {
  lost: "the lease is lost",
  cancelled: "the job is being cancelled or has failed",
  shutdown: "the worker is shutting down",
};

/** Abort reason of `Attempt.signal`, thrown by `Attempt.check`. A handler that throws it gives its stage back. */
export class StageStopped extends Error {
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super(STOP_MESSAGES[reason]);
    // The name of all errors that come from an abort.
    this.name = "AbortError";
    this.reason = reason;
  }
}

/** Options of a `Completion`. */
export interface CompletionParts {
  /** Output stored with the stage, at most 64 KiB as JSON. Undefined: none. */
  readonly artifacts?: object | undefined;
  /** New result of the job, at most 64 KiB as JSON. Undefined: unchanged. */
  readonly jobResult?: object | undefined;
  /** Text for people, cut off at 1 KiB. Undefined: none. */
  readonly message?: string | undefined;
  /** New stages of the same job, added in the same commit. Undefined: none. */
  readonly addStages?: readonly StageOptions[] | undefined;
  /** Further requests of the same commit, all or none, at most 99, as for `Client.commit`. Undefined: none. */
  readonly also?: readonly CommitRequestPart[] | undefined;
}

/** An outcome with more than artifacts, returned by a handler. */
export class Completion {
  readonly parts: CompletionParts;

  constructor(parts: CompletionParts) {
    this.parts = parts;
  }
}

/** Return value of a handler: artifacts as an object, or a `Completion`. Undefined and null: no artifacts. */
export type Outcome = object | Completion | undefined | null;

/** Outcome of a stage that this one depends on. */
export interface Dependency {
  readonly name: string;
  readonly succeeded: boolean;
  /** Output of the stage. Empty: none. */
  readonly artifacts: JsonObject;
  /** Failure of the stage. Undefined: it did not fail. */
  readonly failure: Failure | undefined;
}

/**
 * One attempt at one stage, under a lease that the worker keeps alive. The types `Input` and `Payload` are not checked
 * at run time.
 */
export class Attempt<Input = JsonObject, Payload = JsonObject> {
  /** The lease as the server granted it. */
  readonly lease: Lease;
  /** The stage's input. Empty: none. */
  readonly input: Input;
  /** The job's payload. Empty: none. */
  readonly payload: Payload;
  /** The stages that this one depends on, by name. */
  readonly dependencies: ReadonlyMap<string, Dependency>;
  /** Fencing tokens, by resource, of the permits that the stage requires. The permits end with the lease. */
  readonly permits: ReadonlyMap<string, bigint>;
  /** Whether the job is paused; the handler should stop at a suitable point. */
  isPaused = false;
  /** @internal */
  readonly renewal: Renewal;
  /** @internal Whether the handler has ended and only its outcome is still to be sent. */
  isReportingEnd = false;
  /** @internal When the handler had to stop, on the monotonic clock. Undefined: it can go on. */
  stoppedAt: number | undefined;
  readonly #wake: () => void;
  readonly #stop = new AbortController();
  #stopReason: StopReason | undefined;

  /** Called by the worker. @param leasedAt start of the lease on the monotonic clock. */
  constructor(lease: Lease, leasedAt: number, wake: () => void) {
    this.lease = lease;
    this.renewal = new Renewal(lease, leasedAt);
    this.#wake = wake;
    this.input = (lease.input ?? {}) as Input;
    this.payload = (lease.payload ?? {}) as Payload;
    this.permits = new Map(lease.permits.map((grant) => [grant.resource, grant.fencingToken]));
    this.dependencies = new Map(
      lease.dependencies.map(({ name, state, artifacts = {}, failure }) => [
        name,
        { name, succeeded: state === StageState.SUCCEEDED, artifacts, failure },
      ]),
    );
  }

  get jobId(): string {
    return this.lease.jobId;
  }

  get stageName(): string {
    return this.lease.stageName;
  }

  /** The job's kind. */
  get kind(): string {
    return this.lease.kind;
  }

  /** Queue of the stage. */
  get queue(): string {
    return this.lease.queue;
  }

  /** Number of the attempt, from 1. */
  get number(): number {
    return this.lease.attempt;
  }

  /** Fencing token. Strictly increases with each lease of the stage; third parties can refuse older ones. */
  get fencingToken(): bigint {
    return this.lease.fencingToken;
  }

  /** Aborted with `StageStopped` when the handler has to stop. Give it to `fetch`, timers and child processes. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Reason why the handler has to stop. Undefined: it can go on. "lost" replaces the other reasons. */
  get stopReason(): StopReason | undefined {
    return this.#stopReason;
  }

  /**
   * Reports progress, 0 to 1, and a message. Returns at once; the next heartbeat carries both. Of several reports
   * between two heartbeats the last one counts.
   *
   * @param message text for people, cut off at 1 KiB. Undefined: unchanged.
   * @throws RangeError if the progress is not a number from 0 to 1.
   * @throws StageStopped if the handler has to stop.
   */
  report(progress?: number, message?: string): void {
    if (progress !== undefined && !(typeof progress === "number" && progress >= 0 && progress <= 1)) {
      throw new RangeError(`progress is a number from 0 to 1, not ${String(progress)}`);
    }
    this.check();
    this.renewal.say(progress, message);
    this.#wake();
  }

  /** Throws if the handler has to stop; for code without a signal, such as loops. @throws StageStopped */
  check(): void {
    if (this.#stopReason !== undefined) {
      throw new StageStopped(this.#stopReason);
    }
  }

  /** @internal Called by the worker. Only "lost" replaces an earlier reason. */
  stop(reason: StopReason): void {
    if (this.isReportingEnd) {
      return;
    }
    if (this.#stopReason === undefined || reason === "lost") {
      this.#stopReason = reason;
    }
    this.stoppedAt ??= performance.now();
    this.#stop.abort(new StageStopped(reason));
  }
}

/** Expiry of a lease, its next renewal, and the progress to send. Times are on the monotonic clock. */
export class Renewal {
  readonly token: string;
  readonly intervalMs: number;
  expiresAt: number;
  dueAt: number;
  sentAt = Number.NEGATIVE_INFINITY;
  #progress: number | undefined;
  #message: string | undefined;

  constructor(lease: Lease, leasedAt: number) {
    this.token = lease.leaseToken;
    this.intervalMs = Math.max(50, lease.heartbeatInterval ? milliseconds(lease.heartbeatInterval) : 0);
    this.expiresAt = leasedAt + (lease.ttl ? milliseconds(lease.ttl) : 0);
    this.dueAt = leasedAt + this.intervalMs;
  }

  get hasNews(): boolean {
    return this.#progress !== undefined || this.#message !== undefined;
  }

  say(progress: number | undefined, message: string | undefined): void {
    this.#progress = progress ?? this.#progress;
    this.#message = message === undefined ? this.#message : cut(String(message), 1024);
  }

  /** The renewal to send now. */
  take(): LeaseRenewal {
    const renewal = create(LeaseRenewalSchema, {
      leaseToken: this.token,
      progress: this.#progress,
      message: this.#message,
    });
    this.#progress = undefined;
    this.#message = undefined;
    this.sentAt = performance.now();
    return renewal;
  }

  /** Takes back a renewal that was not sent. Reports since then are newer and win. */
  takeBack(renewal: LeaseRenewal): void {
    this.#progress ??= renewal.progress;
    this.#message ??= renewal.message;
  }
}
