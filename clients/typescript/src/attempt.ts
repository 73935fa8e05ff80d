// What a handler sees of the stage it works on, and what it can say about its end.
import { create } from "@bufbuild/protobuf";
import { cut, type JsonObject, milliseconds } from "./documents.js";
import type { Failure } from "./gen/interlock/v1/common_pb.js";
import { StageState } from "./gen/interlock/v1/job_pb.js";
import { type Lease, type LeaseRenewal, LeaseRenewalSchema } from "./gen/interlock/v1/worker_service_pb.js";
import type { CommitRequestPart } from "./records.js";
import type { StageOptions } from "./stages.js";

/**
 * Why a handler has to stop: its lease is lost; its job is being cancelled or has failed; the worker is shutting down.
 */
export type StopReason = "lost" | "cancelled" | "shutdown";

const STOP_MESSAGES: Readonly<Record<StopReason, string>> = {
  lost: "the lease is lost",
  cancelled: "the job is being cancelled or has failed",
  shutdown: "the worker is shutting down",
};

/** The reason of `Attempt.signal`, and what `Attempt.check` throws. A handler that ends with it gives its stage back. */
export class StageStopped extends Error {
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super(STOP_MESSAGES[reason]);
    // As of all errors that end something by a signal.
    this.name = "AbortError";
    this.reason = reason;
  }
}

/** What a `Completion` is made of. */
export interface CompletionParts {
  /** What the stage has produced, at most 64 KiB as JSON. Undefined: nothing. */
  readonly artifacts?: object | undefined;
  /** Becomes the result of the job, at most 64 KiB as JSON. Undefined: it stays as it is. */
  readonly jobResult?: object | undefined;
  /** For people; what exceeds 1 KiB is cut off. Undefined: none. */
  readonly message?: string | undefined;
  /** New stages of the same job, added in the same commit. Undefined: none. */
  readonly addStages?: readonly StageOptions[] | undefined;
  /** What else is done in that commit, or not at all; at most 99 requests as for `Client.commit`. Undefined: nothing. */
  readonly also?: readonly CommitRequestPart[] | undefined;
}

/** What a handler returns if artifacts alone do not say it all. */
export class Completion {
  readonly parts: CompletionParts;

  constructor(parts: CompletionParts) {
    this.parts = parts;
  }
}

/** What a handler returns: artifacts as an object, or a `Completion`. Undefined and null: no artifacts. */
export type Outcome = object | Completion | undefined | null;

/** What became of a stage that this one depends on. */
export interface Dependency {
  readonly name: string;
  readonly succeeded: boolean;
  /** What it has produced. Empty: nothing. */
  readonly artifacts: JsonObject;
  /** Undefined: it did not fail. */
  readonly failure: Failure | undefined;
}

/**
 * One attempt at one stage, under a lease that the worker keeps alive. `Input` and `Payload` are what the caller says that
 * they are; nothing checks it.
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
  /** The fencing tokens of the permits that the stage asked for, by resource. They end with the lease. */
  readonly permits: ReadonlyMap<string, bigint>;
  /** Whether the job is paused: an advice to stop at the next good point. */
  isPaused = false;
  /** @internal */
  readonly renewal: Renewal;
  /** @internal Whether the work is over and only its outcome is still to be reported. */
  isReportingEnd = false;
  readonly #wake: () => void;
  readonly #stop = new AbortController();
  #stopReason: StopReason | undefined;

  /** Made by the worker. @param leasedAt when the lease began, on the monotonic clock. */
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

  /** The queue it came from. */
  get queue(): string {
    return this.lease.queue;
  }

  /** Which attempt this is, from 1. */
  get number(): number {
    return this.lease.attempt;
  }

  /** Strictly increases with each lease of the stage, for third parties that can refuse older ones. */
  get fencingToken(): bigint {
    return this.lease.fencingToken;
  }

  /** Aborted with `StageStopped` when the handler has to stop. Give it to `fetch`, timers and child processes. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Why the handler has to stop. Undefined: it has not to. "lost" replaces the other reasons. */
  get stopReason(): StopReason | undefined {
    return this.#stopReason;
  }

  /**
   * Says how far the attempt is, 0 to 1, and what it is doing. Returns at once; the next heartbeat carries it. Reports
   * that follow each other quickly become one; the last one counts.
   *
   * @param message for people; what exceeds 1 KiB is cut off. Undefined: as before.
   * @throws RangeError if the progress is no number from 0 to 1.
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

  /** For code without a signal, such as loops. @throws StageStopped if the handler has to stop. */
  check(): void {
    if (this.#stopReason !== undefined) {
      throw new StageStopped(this.#stopReason);
    }
  }

  /** @internal Called by the worker. The first reason stands, but "lost" wins. */
  stop(reason: StopReason): void {
    if (this.isReportingEnd) {
      return;
    }
    if (this.#stopReason === undefined || reason === "lost") {
      this.#stopReason = reason;
    }
    this.#stop.abort(new StageStopped(reason));
  }
}

/** When the lease ends, when to renew it, and what to say then. Times are on the monotonic clock. */
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

  /** Takes back what could not be sent. What was said since then is newer. */
  takeBack(renewal: LeaseRenewal): void {
    this.#progress ??= renewal.progress;
    this.#message ??= renewal.message;
  }
}
