// Queues, from the stages of the jobs that have not ended: the server has no list of them.
import { type Job, type Stage, StageState } from "../client/gen/interlock/v1/job_pb.js";
import { ms } from "./format.js";

/** A queue. */
export interface Queue {
  readonly name: string;
  /** Stages that are READY. */
  readonly ready: number;
  readonly running: number;
  readonly backoff: number;
  /** When the stage that is READY for the longest time became so, in milliseconds since 1970. Undefined: none is READY. */
  readonly oldestReady: number | undefined;
  /** Workers that hold leases. */
  readonly workers: readonly string[];
}

/** A worker, from the leases that it holds. */
export interface Worker {
  readonly name: string;
  readonly stages: readonly { readonly jobId: string; readonly stage: Stage }[];
}

/** The queues of stages, by name. */
export function queuesOf(jobs: Iterable<Job>): Queue[] {
  const queues = new Map<string, Draft>();
  for (const job of jobs) {
    const ends = new Map(job.stages.map((stage) => [stage.name, ms(stage.endTime)]));
    for (const stage of job.stages) {
      if (!stage.direct) {
        count(queues, job, stage, ends);
      }
    }
  }
  return [...queues.entries()]
    .map(([name, { workers, ...queue }]) => ({ name, ...queue, workers: [...workers].sort() }))
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

interface Draft {
  ready: number;
  running: number;
  backoff: number;
  oldestReady: number | undefined;
  workers: Set<string>;
}

function count(
  queues: Map<string, Draft>,
  job: Job,
  stage: Stage,
  ends: ReadonlyMap<string, number | undefined>,
): void {
  const { state } = stage;
  if (state !== StageState.READY && state !== StageState.RUNNING && state !== StageState.BACKOFF) {
    return;
  }
  const queue = queues.get(stage.queue) ?? {
    ready: 0,
    running: 0,
    backoff: 0,
    oldestReady: undefined,
    workers: new Set(),
  };
  queues.set(stage.queue, queue);
  if (state === StageState.READY) {
    queue.ready += 1;
    const since = readySince(job, stage, ends);
    queue.oldestReady = queue.oldestReady === undefined ? since : Math.min(queue.oldestReady, since ?? Infinity);
  } else if (state === StageState.RUNNING) {
    queue.running += 1;
  } else {
    queue.backoff += 1;
  }
  if (stage.lease !== undefined) {
    queue.workers.add(stage.lease.workerId);
  }
}

/**
 * When a stage became READY: when the last of the stages it waits for ended, its last failure was followed by no wait, or
 * its job was submitted. In milliseconds since 1970.
 */
export function readySince(job: Job, stage: Stage, ends: ReadonlyMap<string, number | undefined>): number | undefined {
  const times = [
    ms(job.createTime),
    ms(stage.nextAttemptTime),
    ms(stage.failure?.failureTime),
    ...stage.dependsOn.map((name) => ends.get(name)),
  ].filter((time) => time !== undefined);
  return times.length === 0 ? undefined : Math.max(...times);
}

/** The workers that hold leases, by name. */
export function workersOf(jobs: Iterable<Job>): Worker[] {
  const workers = new Map<string, { jobId: string; stage: Stage }[]>();
  for (const { jobId, stages } of jobs) {
    for (const stage of stages) {
      if (stage.state === StageState.RUNNING && stage.lease !== undefined) {
        const list = workers.get(stage.lease.workerId) ?? [];
        list.push({ jobId, stage });
        workers.set(stage.lease.workerId, list);
      }
    }
  }
  return [...workers.entries()]
    .map(([name, stages]) => ({ name, stages }))
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}
