// Jobs, stages and retry policies to submit, as plain objects.
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { optionalDuration, toDocument } from "./documents.js";
import { type FailureClass, type RetryPolicy, RetryPolicySchema } from "./gen/interlock/v1/common_pb.js";
import {
  type StageDependsWhen,
  type StageOnFailure,
  type StageSpec,
  StageSpecSchema,
} from "./gen/interlock/v1/job_pb.js";
import { type SubmitJobRequest, SubmitJobRequestSchema } from "./gen/interlock/v1/job_service_pb.js";
import { type AnyClaim, permitClaims } from "./permits.js";

/** Exceptions of a retry policy for one class of failure. */
export interface RetryRuleOptions {
  readonly failureClass: FailureClass;
  /** Whether failures of this class are retried. Undefined: true, but false for CLIENT_ERROR and CANCELLED. */
  readonly retryable?: boolean | undefined;
  /** Budget of attempts for this class alone, 1 to 100. Undefined: the class shares the budget of the policy. */
  readonly maxAttempts?: number | undefined;
  /** 0 to 24 h. Undefined: as in the policy. */
  readonly initialBackoffMs?: number | undefined;
  /** 1 to 10. Undefined: as in the policy. */
  readonly multiplier?: number | undefined;
  /** 0 to 24 h, jitter not counted. Undefined: as in the policy. */
  readonly maxBackoffMs?: number | undefined;
  /** 0 to 1 h. Undefined: as in the policy. */
  readonly jitterMs?: number | undefined;
}

/** Retry policy of failed attempts; `RetryPolicy` in the protos has the rules. */
export interface RetryPolicyOptions {
  /** Failed attempts after which the stage fails, 1 to 100. Undefined: 3. */
  readonly maxAttempts?: number | undefined;
  /** Wait after the first failure, 0 to 24 h. Undefined: 1 s, and 2 s for RATE_LIMITED. */
  readonly initialBackoffMs?: number | undefined;
  /** Factor from one wait to the next, 1 to 10. Undefined: 2. */
  readonly multiplier?: number | undefined;
  /** Longest wait, 0 to 24 h, jitter not counted. Undefined: 5 minutes. */
  readonly maxBackoffMs?: number | undefined;
  /** Longest random addition to a wait, 0 to 1 h. Undefined: 1 s. */
  readonly jitterMs?: number | undefined;
  /** Exceptions, at most one per class. Undefined: only the built-in ones. */
  readonly rules?: readonly RetryRuleOptions[] | undefined;
}

/** A stage to be created. */
export interface StageOptions {
  /** Unique within the job; matches `[A-Za-z0-9._:-]{1,128}`. */
  readonly name: string;
  /** Queue from which workers lease it. Undefined: `default`. */
  readonly queue?: string | undefined;
  /** Stages that it depends on. Undefined: none, it can start at once. */
  readonly dependsOn?: readonly string[] | undefined;
  /** Input for the worker, at most 64 KiB as JSON. Undefined: none. */
  readonly input?: object | undefined;
  /** Retry policy. Undefined: that of the job. */
  readonly retryPolicy?: RetryPolicyOptions | undefined;
  /** Duration of a lease without a renewal, 1 s to 24 h. Undefined: as the worker asks. */
  readonly leaseDurationMs?: number | undefined;
  /** Longest duration of one attempt, more than 0 and up to 7 days. Undefined: no limit. */
  readonly timeoutMs?: number | undefined;
  /** Weight in the job's progress, 0 to 1,000,000. Undefined: 1. */
  readonly weight?: number | undefined;
  /** Condition on its dependencies to become ready. Undefined: ALL_SUCCEEDED. */
  readonly dependsWhen?: StageDependsWhen | undefined;
  /** Effect of its final failure on the job. Undefined: FAIL_JOB. */
  readonly onFailure?: StageOnFailure | undefined;
  /** Group key, at most 128 bytes: stages with the same queue and key can be leased together. Undefined: none. */
  readonly groupKey?: string | undefined;
  /** Whether it is never leased, only written by name. Undefined: false. */
  readonly direct?: boolean | undefined;
  /** BLOCKED stages of the job that are made to depend on this one too. Undefined: none. */
  readonly requiredBy?: readonly string[] | undefined;
  /** Permits that an attempt needs, at most 32: the stage is leased only together with them. Undefined: none. */
  readonly permits?: readonly AnyClaim[] | undefined;
}

/** A job to be created, without its kind. */
export interface JobOptions {
  /** Stages. Undefined: one stage named `main` in the queue `default`. */
  readonly stages?: readonly StageOptions[] | undefined;
  /** Document that all stages see, at most 256 KiB as JSON. Undefined: none. */
  readonly payload?: object | undefined;
  /** Labels, at most 64. Undefined: none. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Id that matches `[A-Za-z0-9._:-]{1,128}`. Undefined: the server chooses one. */
  readonly jobId?: string | undefined;
  /** Priority, -1,000 to 1,000; higher is leased first. Undefined: 0. */
  readonly priority?: number | undefined;
  /** Time before which no stage starts. Undefined: now. */
  readonly startTime?: Date | undefined;
  /** Retry policy of stages without their own. Undefined: the defaults of `RetryPolicyOptions`. */
  readonly retryPolicy?: RetryPolicyOptions | undefined;
  /** Longest duration of a run, up to 365 days; then the job fails with TIMEOUT. Undefined: no limit. */
  readonly timeoutMs?: number | undefined;
  /** Time that the job is kept after its end, 0 to 365 days. Undefined: 7 days. */
  readonly retentionMs?: number | undefined;
  /** A UUID that makes the call safe to repeat, also by another process. Undefined: a new one. */
  readonly requestId?: string | undefined;
}

/** A request for `Client.commit` that submits a job. */
export function jobSubmission(kind: string, options: JobOptions = {}): SubmitJobRequest {
  return create(SubmitJobRequestSchema, {
    kind,
    stages: options.stages?.map(stageSpec),
    payload: options.payload && toDocument(options.payload),
    labels: options.labels,
    jobId: options.jobId,
    priority: options.priority,
    startTime: options.startTime && time(options.startTime),
    retryPolicy: options.retryPolicy && retryPolicy(options.retryPolicy),
    timeout: optionalDuration(options.timeoutMs, "timeoutMs"),
    retention: optionalDuration(options.retentionMs, "retentionMs"),
    requestId: options.requestId,
  });
}

/** The stage as a message. */
export function stageSpec(stage: StageOptions): StageSpec {
  return create(StageSpecSchema, {
    name: stage.name,
    queue: stage.queue,
    dependsOn: names(stage.dependsOn, "dependsOn"),
    input: stage.input && toDocument(stage.input),
    retryPolicy: stage.retryPolicy && retryPolicy(stage.retryPolicy),
    leaseDuration: optionalDuration(stage.leaseDurationMs, "leaseDurationMs"),
    timeout: optionalDuration(stage.timeoutMs, "timeoutMs"),
    weight: stage.weight,
    dependsWhen: stage.dependsWhen,
    onFailure: stage.onFailure,
    groupKey: stage.groupKey,
    direct: stage.direct,
    requiredBy: names(stage.requiredBy, "requiredBy"),
    permits: stage.permits && permitClaims(stage.permits),
  });
}

/**
 * A list of names.
 *
 * @throws TypeError if it is a single string, because JavaScript would read its letters as names.
 */
export function names(given: readonly string[] | undefined, parameter: string): string[] | undefined {
  if (typeof given === "string") {
    throw new TypeError(`${parameter} is a list of texts: write ["${given}"] in place of "${given}"`);
  }
  return given && [...given];
}

function retryPolicy(policy: RetryPolicyOptions): RetryPolicy {
  return create(RetryPolicySchema, {
    maxAttempts: policy.maxAttempts,
    multiplier: policy.multiplier,
    ...waits(policy),
    rules: policy.rules?.map((rule) => ({
      failureClass: rule.failureClass,
      retryable: rule.retryable,
      maxAttempts: rule.maxAttempts,
      multiplier: rule.multiplier,
      ...waits(rule),
    })),
  });
}

function waits(given: Pick<RetryPolicyOptions, "initialBackoffMs" | "maxBackoffMs" | "jitterMs">) {
  return {
    initialBackoff: optionalDuration(given.initialBackoffMs, "initialBackoffMs"),
    maxBackoff: optionalDuration(given.maxBackoffMs, "maxBackoffMs"),
    jitter: optionalDuration(given.jitterMs, "jitterMs"),
  };
}

function time(date: Date): Timestamp {
  if (!(date instanceof Date) || Number.isNaN(date.getTime())) {
    throw new RangeError("startTime is not a valid Date");
  }
  return timestampFromDate(date);
}
