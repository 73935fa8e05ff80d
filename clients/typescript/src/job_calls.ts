// Calls for jobs.
import { create } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { type CallOptions, Connection, LONGEST_WAIT_MS, type ReadOptions, WAIT_MARGIN_MS } from "./connection.js";
import { optionalDuration, toDuration, toInt64, waitMs } from "./documents.js";
import { type Job, JobSchema, JobState } from "./gen/interlock/v1/job_pb.js";
import { type ExplainJobResponse, JobService, type Queue, StageWaitReason } from "./gen/interlock/v1/job_service_pb.js";
import { type WorkerLeases, WorkerService } from "./gen/interlock/v1/worker_service_pb.js";
import { JobWatch, ProgressWatch } from "./job_watch.js";
import { JobsWatch } from "./jobs_watch.js";
import { pages } from "./pages.js";
import { type JobOptions, jobSubmission } from "./stages.js";
import type { StreamOptions } from "./stream.js";

const rpc = JobService.method;
/** Wait after which its cause is looked for, once, and the timeout of that. */
const SOON_MS = 1_500;
const EXPLAIN_MS = 1_000;

/** Options of a write to an existing job. */
export interface JobWriteOptions extends CallOptions {
  /** Required version of the job. Undefined: any version. */
  readonly expectedVersion?: bigint | number | undefined;
}

/** Methods of `Client` for jobs. */
export class JobCalls extends Connection {
  /**
   * Creates a job. @throws AlreadyExists if its `jobId` is taken.
   *
   * @param kind kind of the job; matches `[A-Za-z0-9._:/-]{1,128}`.
   */
  async submitJob(kind: string, job: JobOptions = {}, options: CallOptions = {}): Promise<Job> {
    return found((await this.call(rpc.submitJob, jobSubmission(kind, job), options)).job);
  }

  /** Reads a job with its stages. @throws NotFound */
  async getJob(jobId: string, options: ReadOptions = {}): Promise<Job> {
    const request = { jobId, maxStaleness: staleness(options) };
    return found((await this.call(rpc.getJob, request, callOptions(options))).job);
  }

  /**
   * Iterates over the jobs that match a filter, without stages, page by page.
   *
   * @param filter as in `ListJobsRequest`, such as `state = RUNNING AND labels.customer = "acme"`. Empty: all.
   * @param options `orderBy`: `create_time`, `end_time` or `priority`, with ` desc` for the largest first. Undefined:
   *   `create_time desc`.
   */
  async *listJobs(
    filter = "",
    options: ReadOptions & { readonly orderBy?: string | undefined } = {},
  ): AsyncGenerator<Job, void> {
    const maxStaleness = staleness(options);
    const request = { filter, orderBy: options.orderBy, maxStaleness, pageSize: 1_000 };
    const read = (pageToken: string) => this.call(rpc.listJobs, { ...request, pageToken }, callOptions(options));
    for await (const page of pages(read)) {
      yield* page.jobs;
    }
  }

  /**
   * Iterates over the queues that have ready, waiting, leased or delayed stages, by name, page by page. Counts end at
   * a bound, which `readyCountCapped` and its siblings tell.
   */
  async *listQueues(options: ReadOptions = {}): AsyncGenerator<Queue, void> {
    const request = { maxStaleness: staleness(options), pageSize: 1_000 };
    const read = (pageToken: string) => this.call(rpc.listQueues, { ...request, pageToken }, callOptions(options));
    for await (const page of pages(read)) {
      yield* page.queues;
    }
  }

  /**
   * Iterates over the workers that hold leases, by `workerId`, page by page: the number of the leases, their queues and
   * the stages that were leased first. The server looks at a bounded number of leases, which `leaseCountCapped` tells.
   */
  async *listWorkers(options: ReadOptions = {}): AsyncGenerator<WorkerLeases, void> {
    const request = { maxStaleness: staleness(options), pageSize: 1_000 };
    const { listWorkers } = WorkerService.method;
    const read = (pageToken: string) => this.call(listWorkers, { ...request, pageToken }, callOptions(options));
    for await (const page of pages(read)) {
      yield* page.workers;
    }
  }

  /**
   * Waits until a job has ended and returns it; its state says how it ended. A wait of more than 50 s is made of
   * several calls. If the job has not started after 1.5 s, the log says why.
   *
   * @param options `waitMs`: the longest wait; then the job is returned as it is. Undefined: no limit.
   */
  async waitJob(
    jobId: string,
    options: Pick<CallOptions, "signal"> & { readonly waitMs?: number | undefined } = {},
  ): Promise<Job> {
    const deadline = performance.now() + waitMs(options.waitMs ?? Number.POSITIVE_INFINITY, "waitMs");
    for (let longest = SOON_MS; ; longest = LONGEST_WAIT_MS) {
      const wait = Math.min(Math.max(0, deadline - performance.now()), longest);
      const request = { jobId, wait: toDuration(wait, "waitMs") };
      const timeoutMs = wait + Math.max(WAIT_MARGIN_MS, this.timeoutMs);
      const response = await this.call(rpc.waitJob, request, { timeoutMs, signal: options.signal });
      if (response.terminal || performance.now() >= deadline) {
        return found(response.job);
      }
      if (longest === SOON_MS && response.job?.state === JobState.PENDING) {
        await this.#explainWait(jobId, options.signal);
      }
    }
  }

  /** Logs why a job does not start; as a warning if no worker polls a queue of it, which may be misspelled. */
  async #explainWait(jobId: string, signal: AbortSignal | undefined): Promise<void> {
    const explained = await this.call(rpc.explainJob, { jobId }, { timeoutMs: EXPLAIN_MS, signal }).catch(() => {});
    if (explained?.stages.some(({ reason }) => reason === StageWaitReason.NO_WORKER)) {
      const question = "Is the queue spelled as the workers have it?";
      this.log.warn(`the job ${jobId} waits: ${explained.headline} ${question}`);
    } else if (explained !== undefined) {
      this.log.info(`the job ${jobId} waits: ${explained.headline}`);
    }
  }

  /**
   * Follows a job to its end, as in `for await (const update of client.watch(jobId))`. The first update is the job as
   * it is, and each further one is the job after the next change. Every change of state is delivered; steps of progress
   * may be merged. The last update is the terminal one. A broken stream is resumed from the last version, on any
   * server; no version is delivered twice.
   *
   * Changes do not carry `labels`, `priority`, `result`, the times of the job, and artifacts: these are as of the last
   * full read. `getJob` has them.
   *
   * The iterator throws NotFound if the job does not exist or is deleted, VersionInFuture if the job has not reached
   * `fromVersion`, and the last error once resuming has failed for `patienceMs`.
   *
   * @param job id of the job, or the job itself as `submitJob` and `getJob` return it; then only later changes are
   *   delivered.
   * @param options `fromVersion`: version that the caller already knows; then `update.job` has only the fields of the
   *   changes, and `stagesTruncated` is set. Undefined: 0, the job is read.
   */
  watch(
    job: string | Job,
    options: StreamOptions & { readonly fromVersion?: bigint | number | undefined } = {},
  ): JobWatch {
    const version = toInt64(options.fromVersion, "fromVersion") ?? 0n;
    if (typeof job !== "string" && version !== 0n) {
      throw new RangeError("a job begins after its own version: give its id with fromVersion");
    }
    const start =
      typeof job === "string"
        ? create(JobSchema, { jobId: job, version, stagesTruncated: version > 0n })
        : { ...job, stages: [...job.stages] };
    return new JobWatch((request) => this.openStream(rpc.watchJob, request, options), start);
  }

  /**
   * Follows the progress, state and running stages of a job, for front ends: an update for each change of these. Errors
   * are those of `watch`.
   */
  progress(job: string | Job, options: StreamOptions = {}): ProgressWatch {
    return new ProgressWatch(this.watch(job, options));
  }

  /**
   * Follows all jobs of a filter, for dashboards. The first events are `appeared` for each job that matches, then
   * one `caughtUp`. After it `appeared`, `changed` and `removed` come as they happen. The watch does not end by itself.
   * A broken stream is restarted and compared: only differences are delivered, and changes of state in between can be
   * missing.
   *
   * The iterator throws InvalidArgument if the filter is malformed, and ResourceExhausted if more than 10,000 jobs
   * match.
   *
   * @param filter as in `listJobs`.
   */
  watchJobs(filter = "", options: StreamOptions = {}): JobsWatch {
    return new JobsWatch((beginAgain) => {
      const request = () => {
        beginAgain();
        return { filter };
      };
      return this.openStream(rpc.watchJobs, request, options);
    });
  }

  /**
   * Cancels a job. Its workers have the grace period to stop, at least half of it after they receive the request.
   *
   * @param options `reason`: for people, at most 1 KiB. `gracePeriodMs`: 0 to 24 h; 0 ends leases at once. Undefined:
   *   30,000.
   */
  async cancelJob(
    jobId: string,
    options: JobWriteOptions & {
      readonly reason?: string | undefined;
      readonly gracePeriodMs?: number | undefined;
    } = {},
  ): Promise<Job> {
    const request = {
      jobId,
      reason: options.reason,
      gracePeriod: optionalDuration(options.gracePeriodMs, "gracePeriodMs"),
      expectedVersion: expected(options),
    };
    return found((await this.call(rpc.cancelJob, request, callOptions(options))).job);
  }

  /** Pauses a job: its stages are not leased any more. @throws InvalidTransition if it is ending or has ended. */
  async pauseJob(jobId: string, options: JobWriteOptions = {}): Promise<Job> {
    const request = { jobId, expectedVersion: expected(options) };
    return found((await this.call(rpc.pauseJob, request, callOptions(options))).job);
  }

  /** Ends a pause. @throws InvalidTransition if the job is ending or has ended. */
  async resumeJob(jobId: string, options: JobWriteOptions = {}): Promise<Job> {
    const request = { jobId, expectedVersion: expected(options) };
    return found((await this.call(rpc.resumeJob, request, callOptions(options))).job);
  }

  /**
   * Starts another run of a job that has ended.
   *
   * @param options `fromStage`: run this stage and its dependants again, besides stages that have not succeeded.
   *   Undefined: only stages that have not succeeded.
   */
  async retryJob(
    jobId: string,
    options: JobWriteOptions & { readonly fromStage?: string | undefined } = {},
  ): Promise<Job> {
    const request = { jobId, fromStage: options.fromStage, expectedVersion: expected(options) };
    return found((await this.call(rpc.retryJob, request, callOptions(options))).job);
  }

  /** Deletes a job that has ended, with its history. @throws InvalidTransition if it has not. */
  async deleteJob(jobId: string, options: JobWriteOptions = {}): Promise<void> {
    await this.call(rpc.deleteJob, { jobId, expectedVersion: expected(options) }, callOptions(options));
  }

  /** Says why a job is not moving, or what it is doing. */
  async explainJob(jobId: string, options: CallOptions = {}): Promise<ExplainJobResponse> {
    return await this.call(rpc.explainJob, { jobId }, options);
  }
}

/** The options of the call, without others. */
export function callOptions(options: CallOptions): CallOptions {
  return { timeoutMs: options.timeoutMs, signal: options.signal };
}

/** How old the answer of a read may be. Undefined: it is current. */
export function staleness(options: ReadOptions): Duration | undefined {
  return optionalDuration(options.maxStalenessMs, "maxStalenessMs");
}

/** A field that a response has, unless it is replayed for an object deleted since. */
export function found<T>(value: T | undefined): T {
  if (value === undefined) {
    throw new RangeError("the write was applied by an earlier call, and its object has been deleted since");
  }
  return value;
}

function expected(options: JobWriteOptions): bigint | undefined {
  return toInt64(options.expectedVersion, "expectedVersion");
}
