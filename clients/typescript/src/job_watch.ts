// The watch of one job.
import { create } from "@bufbuild/protobuf";
import { Code, VersionInFuture } from "./errors.js";
import {
  type Job,
  JobState,
  type Stage,
  type StageCounts,
  StageCountsSchema,
  StageState,
} from "./gen/interlock/v1/job_pb.js";
import type { JobChange, WatchJobRequest, WatchJobResponse } from "./gen/interlock/v1/job_service_pb.js";
import { ChainBroken, type Stream, Watch } from "./stream.js";

/** State of a job after one update. */
export interface JobUpdate {
  /** The current job. Later updates do not change this object. */
  readonly job: Job;
  /** The change that led to this state. Undefined: the job was read as a whole. */
  readonly change: JobChange | undefined;
  /** Whether changes of state can be missing since the previous update, or since `fromVersion`. */
  readonly gap: boolean;
}

/** A stage that a worker has leased, or that is written by name. */
export interface RunningStage {
  readonly name: string;
  /** Progress, 0 to 1. */
  readonly progress: number;
  /** Text for people. Empty: none. */
  readonly message: string;
  /** Id of the worker. Empty: the stage is written by name, or the worker is not known. */
  readonly workerId: string;
}

/** Progress of a job. */
export interface JobProgress {
  /** Progress, 0 to 1. Never decreases within a run. */
  readonly progress: number;
  readonly state: JobState;
  readonly running: readonly RunningStage[];
  /** Whether the job has ended. */
  readonly hasEnded: boolean;
}

/** Whether a job or a run in this state has ended. */
export function isTerminal(state: JobState): boolean {
  return state === JobState.SUCCEEDED || state === JobState.FAILED || state === JobState.CANCELLED;
}

/** The iterator that `Client.watch` returns. Ends after the update with a terminal state. */
export class JobWatch extends Watch<JobUpdate> {
  readonly #position: Position;
  readonly #stream: Stream<WatchJobResponse>;

  /** Follows a job from a version on. Version 0 starts with a snapshot. */
  constructor(
    open: (request: () => Pick<WatchJobRequest, "jobId" | "fromVersion">) => Stream<WatchJobResponse>,
    job: Job,
  ) {
    super();
    const position = new Position(job);
    this.#position = position;
    this.#stream = open(() => ({
      jobId: job.jobId,
      fromVersion: position.mustReread ? 0n : position.job.version,
    }));
  }

  override close(): void {
    this.#stream.close();
  }

  protected override async read(): Promise<JobUpdate | undefined> {
    while (!this.#stream.isClosed) {
      const response = await this.#stream.read();
      if (response === undefined) {
        if (this.#position.canEnd || this.#stream.isClosed) {
          break;
        }
        this.#stream.broke("the stream ended before the job did");
        continue;
      }
      const update = this.#take(response);
      if (update !== undefined) {
        if (isTerminal(update.job.state)) {
          this.#stream.close();
        }
        return update;
      }
    }
    this.#stream.close();
    return undefined;
  }

  #take(response: WatchJobResponse): JobUpdate | undefined {
    const wasLost = this.#position.mustReread;
    try {
      const update = this.#position.take(response);
      if (!wasLost) {
        this.#stream.confirm();
      }
      return update;
    } catch (error) {
      if (error instanceof ChainBroken) {
        this.#position.lose();
        this.#stream.broke(error.message);
        return undefined;
      }
      this.#stream.close();
      throw error;
    }
  }
}

/** The iterator that `Client.progress` returns: an update whenever progress, state or running stages have changed. */
export class ProgressWatch extends Watch<JobProgress> {
  readonly #watch: JobWatch;
  #last: JobProgress | undefined;

  constructor(watch: JobWatch) {
    super();
    this.#watch = watch;
  }

  override close(): void {
    this.#watch.close();
  }

  protected override async read(): Promise<JobProgress | undefined> {
    for (;;) {
      const { done, value } = await this.#watch.next();
      if (done) {
        return undefined;
      }
      const now = progressOf(value.job);
      if (this.#last === undefined || !isSame(this.#last, now)) {
        this.#last = now;
        return now;
      }
    }
  }
}

/** Progress of a job. */
export function progressOf(job: Job): JobProgress {
  const running = job.stages
    .filter((stage) => stage.state === StageState.RUNNING)
    .map((stage) => ({
      name: stage.name,
      progress: stage.progress,
      message: stage.message,
      workerId: stage.lease?.workerId ?? "",
    }));
  return { progress: job.progress, state: job.state, running, hasEnded: isTerminal(job.state) };
}

/** The job at the version of a change, with its stages as they were. */
export function withChange(job: Job, change: JobChange): Job {
  const isNewRun = change.run !== job.run;
  // Changes do not carry these, and the values of the previous run do not apply to this one.
  const run = isNewRun
    ? { result: undefined, startTime: undefined, endTime: undefined, expireTime: undefined, cancelReason: "" }
    : {};
  return {
    ...job,
    ...run,
    cancelDeadlineTime: isNewRun ? undefined : job.cancelDeadlineTime,
    // History written by older servers has no progress.
    progress: isNewRun ? change.progress : Math.max(job.progress, change.progress),
    run: change.run,
    version: change.version,
    state: change.state,
    failure: change.failure,
    stageCounts: change.stageCounts ?? job.stageCounts,
  };
}

/** Position of a watch in the changes of a job. */
class Position {
  job: Job;
  /** Whether the job must be read as a whole. */
  mustReread = false;
  #gap = false;

  constructor(job: Job) {
    this.job = job;
  }

  /** Whether the server may end the stream here: the job has ended, or only its version is known. */
  get canEnd(): boolean {
    const isUnknown = this.job.version > 0n && this.job.state === JobState.UNSPECIFIED;
    return isTerminal(this.job.state) || isUnknown;
  }

  /** Marks the state as incomplete, so that the job is read again as a whole. */
  lose(): void {
    this.mustReread = true;
    this.#gap = true;
  }

  /** The update that a message makes. Undefined: none. @throws ChainBroken if it does not follow. */
  take(response: WatchJobResponse): JobUpdate | undefined {
    const { update } = response;
    switch (update.case) {
      case "snapshot":
        return this.#snapshot(update.value);
      case "change":
        return this.#change(update.value);
      case "gap":
        this.#gap = true;
        return undefined;
      case "keepalive":
        if (update.value.version > this.job.version) {
          throw new ChainBroken(`version ${update.value.version} was never sent`);
        }
        return undefined;
      default:
        return undefined;
    }
  }

  #snapshot(job: Job): JobUpdate | undefined {
    const before = this.job.version;
    if (job.version < before) {
      const message = `the job is at version ${job.version}, after ${before}: it is another job of the same id`;
      throw new VersionInFuture(Code.OutOfRange, message, {
        metadata: { actual: String(job.version), outcome: "NOT_APPLIED" },
      });
    }
    this.job = job;
    this.mustReread = false;
    return job.version > before ? this.#update(undefined) : undefined;
  }

  #change(change: JobChange): JobUpdate | undefined {
    if (change.version <= this.job.version) {
      return undefined;
    }
    if (change.previousVersion !== this.job.version) {
      throw new ChainBroken(`version ${change.previousVersion} was never sent, and ${change.version} follows it`);
    }
    const stagesTruncated = this.job.stagesTruncated || change.stagesTruncated;
    const job = {
      ...withChange(this.job, change),
      stages: withStages(this.job.stages, change.stages),
      stagesTruncated,
    };
    if (change.stageCounts === undefined && !stagesTruncated) {
      job.stageCounts = countStages(job.stages);
    }
    this.job = job;
    return this.#update(change);
  }

  #update(change: JobChange | undefined): JobUpdate {
    const update = { job: this.job, change, gap: this.#gap };
    this.#gap = false;
    return update;
  }
}

/** The stages of a job with changed ones replaced. */
function withStages(stages: readonly Stage[], changed: readonly Stage[]): Stage[] {
  const index = new Map(changed.map((stage) => [stage.name, stage]));
  const after = stages.map((held) => {
    const now = index.get(held.name);
    if (now === undefined) {
      return held;
    }
    index.delete(held.name);
    // Changes do not carry artifacts.
    return held.version === now.version ? { ...now, artifacts: held.artifacts } : now;
  });
  return [...after, ...index.values()];
}

/** Recounts the stages of a job with a complete list of stages. */
function countStages(stages: readonly Stage[]): StageCounts {
  const count = (state: StageState) => stages.filter((stage) => stage.state === state).length;
  return create(StageCountsSchema, {
    total: stages.length,
    blocked: count(StageState.BLOCKED),
    ready: count(StageState.READY),
    running: count(StageState.RUNNING),
    backoff: count(StageState.BACKOFF),
    succeeded: count(StageState.SUCCEEDED),
    failed: count(StageState.FAILED),
    cancelled: count(StageState.CANCELLED),
    skipped: count(StageState.SKIPPED),
  });
}

function isSame(one: JobProgress, other: JobProgress): boolean {
  return (
    one.progress === other.progress &&
    one.state === other.state &&
    one.running.length === other.running.length &&
    one.running.every((stage, index) => {
      const now = other.running[index];
      return (
        stage.name === now?.name &&
        stage.progress === now.progress &&
        stage.message === now.message &&
        stage.workerId === now.workerId
      );
    })
  );
}
