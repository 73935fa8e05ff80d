// What the view of one job knows, and how it stays current.
import { create } from "@bufbuild/protobuf";
import { call, openStream } from "../api.js";
import { NotFound, VersionInFuture } from "../client/errors.js";
import { type Job, JobSchema, type Stage } from "../client/gen/interlock/v1/job_pb.js";
import { type ExplainJobResponse, type JobEvent, JobService } from "../client/gen/interlock/v1/job_service_pb.js";
import { isTerminal, JobWatch } from "../client/job_watch.js";
import { count } from "../logic/format.js";
import { everyFew } from "../parts/live.js";

/** Interval of reads of a job that has ended, which another run can start again. */
const ENDED_MS = 5_000;
/** Interval of looks whether history and reason are to be read again. */
const LOOK_MS = 700;
/** Looks after which the reason is read again although the job did not change: leases and backoffs end. */
const REASON_LOOKS = 6;
const EVENTS = 200;

/** What is known about the job. */
export interface JobModel {
  job: Job | undefined;
  /** Stages beyond those that one message holds. */
  more: ReadonlyMap<string, Stage>;
  events: readonly JobEvent[];
  hasMoreEvents: boolean;
  reason: ExplainJobResponse | undefined;
  isAbsent: boolean;
}

/** The stages of a message with those it has no room for. */
export function allStages(job: Job, more: ReadonlyMap<string, Stage>): readonly Stage[] {
  if (more.size === 0) {
    return job.stages;
  }
  const all = new Map(more);
  for (const stage of job.stages) {
    const known = all.get(stage.name);
    if (known === undefined || known.version <= stage.version) {
      all.set(stage.name, stage);
    }
  }
  return [...all.values()];
}

/** Follows the job, and its next runs. */
export async function follow(jobId: string, model: JobModel, signal: AbortSignal, shown: () => void): Promise<void> {
  model.isAbsent = false;
  while (!signal.aborted) {
    try {
      const open = (request: () => { jobId: string; fromVersion: bigint }) =>
        openStream(JobService.method.watchJob, request, signal);
      for await (const update of new JobWatch(open, create(JobSchema, { jobId }))) {
        model.job = update.job;
        shown();
        if (update.job.stagesTruncated && (model.more.size === 0 || update.gap)) {
          model.more = await readStages(jobId, signal);
          shown();
        }
      }
      await untilAnotherRun(jobId, model, signal, shown);
    } catch (error) {
      if (error instanceof NotFound) {
        model.isAbsent = true;
        shown();
        return;
      }
      if (!(error instanceof VersionInFuture)) {
        throw error;
      }
      // Another job of the same id.
      model.more = new Map();
      model.events = [];
    }
  }
}

/** Reads the job with its result, and returns when it has changed. */
async function untilAnotherRun(jobId: string, model: JobModel, signal: AbortSignal, shown: () => void): Promise<void> {
  const changed = new AbortController();
  await everyFew(ENDED_MS, AbortSignal.any([signal, changed.signal]), async () => {
    const { job } = await call(JobService.method.getJob, { jobId }, signal);
    if (job !== undefined && isTerminal(job.state)) {
      model.job = job;
      shown();
    } else {
      changed.abort();
    }
  });
}

async function readStages(jobId: string, signal: AbortSignal): Promise<ReadonlyMap<string, Stage>> {
  const stages = new Map<string, Stage>();
  let pageToken = "";
  do {
    const page = await call(JobService.method.listStages, { jobId, pageSize: 1000, pageToken }, signal);
    for (const stage of page.stages) {
      stages.set(stage.name, stage);
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return stages;
}

/** Reads new events and the reason when the job has changed. */
export async function readHistory(
  jobId: string,
  model: JobModel,
  signal: AbortSignal,
  shown: () => void,
): Promise<void> {
  let version = -1n;
  let looks = 0;
  await everyFew(LOOK_MS, signal, async () => {
    const { job } = model;
    if (job === undefined) {
      return;
    }
    looks += 1;
    const hasChanged = job.version !== version;
    const hasEnded = isTerminal(job.state);
    if (hasChanged || (!hasEnded && looks >= REASON_LOOKS)) {
      looks = 0;
      model.reason = hasEnded ? undefined : await call(JobService.method.explainJob, { jobId }, signal);
    }
    if (hasChanged && !model.hasMoreEvents) {
      await readEvents(jobId, model, signal);
    }
    version = job.version;
    shown();
  });
}

async function readEvents(jobId: string, model: JobModel, signal?: AbortSignal): Promise<void> {
  const fromVersion = model.events.at(-1)?.version ?? 0n;
  const page = await call(JobService.method.listJobEvents, { jobId, fromVersion, pageSize: EVENTS }, signal);
  model.events = [...model.events, ...page.events.filter(({ version }) => version > fromVersion)];
  model.hasMoreEvents = page.nextPageToken !== "";
}

export async function readMore(jobId: string, model: JobModel, shown: () => void): Promise<string> {
  await readEvents(jobId, model);
  shown();
  return `${count(model.events.length)} events`;
}
