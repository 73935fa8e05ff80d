// The end of an attempt: the request for what a handler returned or threw, and its delivery.
//
// A result that cannot be stored fails the attempt. If the server refuses an end, a reduced one is sent. A lease is
// left to expire only if no server answers.
import { create, toBinary } from "@bufbuild/protobuf";
import { type Attempt, Completion, type Outcome, StageStopped } from "./attempt.js";
import type { Client } from "./client.js";
import { cut, DOCUMENT_BYTES, described, type JsonObject, toDocument } from "./documents.js";
import { DeadlineExceeded, InterlockError, InvalidArgument, LeaseLost, PermitDenied } from "./errors.js";
import { causesOf, FailureClass, failureOf, newFailure, stackOf, textOf, withNotes } from "./failures.js";
import { type Failure, FailureSchema } from "./gen/interlock/v1/common_pb.js";
import {
  type CommitRequest,
  CommitRequestSchema,
  TransactionService,
} from "./gen/interlock/v1/transaction_service_pb.js";
import {
  type CompleteStageRequest,
  CompleteStageRequestSchema,
  type FailStageRequest,
  FailStageRequestSchema,
  type ReleaseStageRequest,
  ReleaseStageRequestSchema,
  WorkerService,
} from "./gen/interlock/v1/worker_service_pb.js";
import type { Logger } from "./log.js";
import { commitOperations } from "./records.js";
import { canBeRepeated } from "./retry.js";
import { stageSpec } from "./stages.js";

/** Milliseconds for which an outcome is retried, at least. */
const REPORT_MS = 120_000;
// Limits of the server: bytes of a message, and elements of lists in it.
const MESSAGE_BYTES = 4 << 20;
const STAGES = 10_000;
const OPERATIONS = 100;

/** A request that ends an attempt. */
export type EndRequest = CompleteStageRequest | FailStageRequest | ReleaseStageRequest | CommitRequest;

/** Result or error of a handler. */
export type Ended = { readonly returned: Outcome } | { readonly thrown: unknown };

/** The request that ends an attempt after its handler. Undefined: no request, because the lease is lost. */
export function endRequest(attempt: Attempt, ended: Ended, log: Logger): EndRequest | undefined {
  const token = attempt.lease.leaseToken;
  const name = `${attempt.stageName} of ${attempt.jobId}`;
  if ("returned" in ended) {
    // A lost lease can still complete, unless another worker has leased the stage.
    try {
      return completion(token, ended.returned);
    } catch (error) {
      const message = `what the handler returned cannot be stored: ${textOf(error)}`;
      log.error(`${name}: ${message}`);
      return fail(token, newFailure(FailureClass.CLIENT_ERROR, message));
    }
  }
  const { thrown } = ended;
  if (attempt.stopReason === "lost") {
    return undefined;
  }
  if (attempt.stopReason !== undefined && isStop(thrown)) {
    return create(ReleaseStageRequestSchema, { target: { target: { case: "leaseToken", value: token } } });
  }
  const failure = failureOf(thrown);
  if (failure.failureClass === FailureClass.INTERNAL && !(thrown instanceof PermitDenied)) {
    log.error(`${name} failed: ${stackOf(thrown)}`);
  } else {
    log.warn(`${name} failed: ${failure.message}`);
  }
  return fail(token, failure);
}

/** Sends the request that ends an attempt; if it is refused permanently, reports the refusal as a failure. */
export async function reportEnd(client: Client, attempt: Attempt, request: EndRequest): Promise<void> {
  const name = `${attempt.stageName} of ${attempt.jobId}`;
  const error = await send(client, attempt, request);
  if (error === undefined) {
    return;
  }
  client.log.error(`${name}: its end was refused: ${error.message}`);
  const isWrong = error instanceof InvalidArgument;
  let failure: Failure;
  switch (request.$typeName) {
    case "interlock.v1.ReleaseStageRequest":
      return;
    case "interlock.v1.FailStageRequest":
      if (!isWrong) {
        return;
      }
      failure = plainFailure(request.failure ?? create(FailureSchema), error);
      break;
    default:
      // The artifacts are probably too large, and another attempt would not help. Refused operations beside the
      // completion may succeed in another attempt.
      failure = newFailure(isWrong ? FailureClass.CLIENT_ERROR : FailureClass.INTERNAL, error.message, error.reason);
  }
  const again = await send(client, attempt, fail(attempt.lease.leaseToken, failure));
  if (again !== undefined) {
    client.log.error(`${name}: its failure was refused: ${again.message}`);
  }
}

/** Sends the request with retries. Returns a refusal that another end can answer. Undefined: nothing more to send. */
async function send(client: Client, attempt: Attempt, request: EndRequest): Promise<InterlockError | undefined> {
  const name = `${attempt.stageName} of ${attempt.jobId}`;
  const timeoutMs = Math.max(REPORT_MS, attempt.renewal.expiresAt - performance.now());
  try {
    await call(client, request, timeoutMs);
  } catch (error) {
    if (!(error instanceof InterlockError)) {
      throw error;
    }
    // The completion is the first operation of a commit; a later one that is refused is no loss of the lease.
    if ((error.metadata.index ?? "0") !== "0") {
      return error;
    }
    if (error instanceof LeaseLost) {
      client.log.warn(`${name}: another worker has the lease`);
    } else if (canBeRepeated(error) || error instanceof DeadlineExceeded) {
      // The lease expires, and the stage is attempted again.
      client.log.error(`${name}: its end could not be reported: ${error.message}`);
    } else {
      return error;
    }
  }
  return undefined;
}

async function call(client: Client, request: EndRequest, timeoutMs: number): Promise<void> {
  switch (request.$typeName) {
    case "interlock.v1.CompleteStageRequest":
      await client.call(WorkerService.method.completeStage, request, { timeoutMs });
      return;
    case "interlock.v1.FailStageRequest":
      await client.call(WorkerService.method.failStage, request, { timeoutMs });
      return;
    case "interlock.v1.ReleaseStageRequest":
      await client.call(WorkerService.method.releaseStage, request, { timeoutMs });
      return;
    case "interlock.v1.CommitRequest":
      await client.call(TransactionService.method.commit, request, { timeoutMs });
  }
}

function completion(token: string, outcome: Outcome): CompleteStageRequest | CommitRequest {
  const parts = outcome instanceof Completion ? outcome.parts : { artifacts: artifactsOf(outcome) };
  const { message, addStages = [], also = [] } = parts;
  bounded(addStages, "addStages", STAGES);
  bounded(also, "also", OPERATIONS - 1);
  const complete = create(CompleteStageRequestSchema, {
    target: { target: { case: "leaseToken", value: token } },
    artifacts: document("artifacts", parts.artifacts),
    jobResult: document("jobResult", parts.jobResult),
    message: message ? cut(message, 1024) : undefined,
    addStages: addStages.map(stageSpec),
  });
  if (also.length === 0) {
    return sized(complete, toBinary(CompleteStageRequestSchema, complete).length);
  }
  const commit = create(CommitRequestSchema, { operations: commitOperations([complete, ...also]) });
  return sized(commit, toBinary(CommitRequestSchema, commit).length);
}

/** A request that is too large is found here; when sent, it looks like a server that does not answer. */
function sized<T>(request: T, bytes: number): T {
  if (bytes > MESSAGE_BYTES) {
    throw new RangeError(`as a message it has ${bytes} bytes, ${MESSAGE_BYTES} are allowed`);
  }
  return request;
}

function artifactsOf(outcome: unknown): object | undefined {
  if (outcome === undefined || outcome === null) {
    return undefined;
  }
  if (typeof outcome !== "object" || Array.isArray(outcome)) {
    throw new TypeError(`it is ${described(outcome)}, not an object, a Completion or undefined`);
  }
  return outcome;
}

function document(name: string, value: object | undefined): JsonObject | undefined {
  if (value === undefined) {
    return undefined;
  }
  try {
    return toDocument(value, DOCUMENT_BYTES);
  } catch (error) {
    throw new TypeError(`${name}: ${textOf(error)}`);
  }
}

function bounded(list: readonly unknown[], name: string, most: number): void {
  if (!Array.isArray(list) || list.length > most) {
    throw new RangeError(`${name} is a list of at most ${most}, not ${described(list)}`);
  }
}

function fail(token: string, failure: Failure): FailStageRequest {
  return create(FailStageRequestSchema, { target: { target: { case: "leaseToken", value: token } }, failure });
}

/** A refused failure without the fields that the server can refuse. */
function plainFailure(failure: Failure, error: InterlockError): Failure {
  const plain = create(FailureSchema, {
    failureClass: failure.failureClass,
    code: failure.code,
    message: failure.message,
  });
  return withNotes(plain, [`details and retryAfterMs were left out: ${error.rawMessage}`]);
}

/** Whether a handler threw because its signal was aborted: its error, or a cause of it, is the abort. */
function isStop(thrown: unknown): boolean {
  return causesOf(thrown).some(
    (cause) => cause instanceof StageStopped || (cause instanceof Error && cause.name === "AbortError"),
  );
}
