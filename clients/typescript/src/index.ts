/**
 * Client of Interlock: submit jobs of stages, follow them, write workers that lease them, and record the timelines of
 * live sessions.
 *
 * A thin layer over the generated stubs of `interlock.v1` (`interlock-client/v1`): every rpc can be called through
 * `Client.call`, which adds request ids, retries and typed errors; `Worker` adds leases, heartbeats and shutdown, and
 * `Client.withPermit` locks, limits, rates and breakers that all clients share.
 *
 * @module
 */
export { timestampDate } from "@bufbuild/protobuf/wkt";
export type { AccessOptions, Pem } from "./access.js";
export {
  Attempt,
  Completion,
  type CompletionParts,
  type Dependency,
  type Outcome,
  StageStopped,
  type StopReason,
} from "./attempt.js";
export { Client, type CommitOptions } from "./client.js";
export type { CallOptions, ClientOptions, ReadOptions } from "./connection.js";
export { type JsonObject, type JsonValue, toDocument } from "./documents.js";
export {
  AlreadyExists,
  Code,
  Conflict,
  DeadlineExceeded,
  type ErrorParts,
  type FieldViolation,
  InterlockError,
  Internal,
  InvalidArgument,
  InvalidTransition,
  LeaseLost,
  NotFound,
  PermissionDenied,
  type PermitBlocker,
  PermitDenied,
  PermitLost,
  PreconditionFailed,
  ResourceExhausted,
  Unauthenticated,
  Unavailable,
  VersionInFuture,
  VersionMismatch,
} from "./errors.js";
export {
  expectOk,
  FailureClass,
  failureOfResponse,
  type HttpResponse,
  RateLimited,
  ServerError,
  StageError,
  type StageErrorOptions,
} from "./failures.js";
export {
  type Job,
  JobState,
  type Stage,
  StageDependsWhen,
  StageOnFailure,
  StageState,
} from "./gen/interlock/v1/job_pb.js";
export type { Queue } from "./gen/interlock/v1/job_service_pb.js";
export { BreakerState, PermitBlockReason, type Resource } from "./gen/interlock/v1/permit_pb.js";
export type { PermitWaiter } from "./gen/interlock/v1/permit_service_pb.js";
export type { Collection } from "./gen/interlock/v1/record_service_pb.js";
export type { HeldStage, WorkerLeases } from "./gen/interlock/v1/worker_service_pb.js";
export { HeldPermit } from "./holding.js";
export type { JobWriteOptions } from "./job_calls.js";
export {
  isTerminal,
  type JobProgress,
  type JobUpdate,
  type JobWatch,
  type ProgressWatch,
  progressOf,
  type RunningStage,
} from "./job_watch.js";
export type { JobsEvent, JobsWatch } from "./jobs_watch.js";
export { type Logger, silentLogger, stderrLogger } from "./log.js";
export type { AcquireOptions, OperatorOptions } from "./permit_calls.js";
export { type AnyClaim, type Claim, type OutcomeOptions, type Permit, PermitMode, permitRelease } from "./permits.js";
export type { RecordName, RecordsWatch, RecordUpdate } from "./record_watch.js";
export {
  type CommitRequestPart,
  Field,
  field,
  recordDeletion,
  recordUpdate,
  type StoredRecord,
  type UpdateOptions,
} from "./records.js";
export type { AdaptiveLimit, Breaker, PolicyOptions, Rate, ResourceUpdate, ResourceWatch } from "./resources.js";
export { Backoff } from "./retry.js";
export type { ImportFault, ImportResult } from "./segment_import.js";
export {
  type Content,
  type SegmentFields,
  type SegmentInput,
  SegmentKind,
  SegmentStatus,
  type StoredSegment,
  type Word,
} from "./segments.js";
export type { Session, SessionOptions, SessionWriteOptions, TimelineOptions } from "./session.js";
export type { NewSession, SearchOptions } from "./session_calls.js";
export type { SessionPosition, SessionUpdate, SessionWatch } from "./session_watch.js";
export {
  type AppendResult,
  ExportFormat,
  type Match,
  SegmentSkip,
  SessionState,
  type SessionStatistics,
  type StoredSession,
  Untimed,
  type WriteResult,
} from "./sessions.js";
export {
  type JobOptions,
  jobSubmission,
  type RetryPolicyOptions,
  type RetryRuleOptions,
  type StageOptions,
} from "./stages.js";
export type { StreamOptions } from "./stream.js";
export { type Handler, Worker, type WorkerOptions } from "./worker.js";
