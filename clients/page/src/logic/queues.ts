// Lists by name that are read page by page, and workers, from the stages of the jobs that have not ended.
import { type Job, type Stage, StageState } from "../client/gen/interlock/v1/job_pb.js";
import { count } from "./format.js";

/** A worker, from the leases that it holds. */
export interface Worker {
  readonly name: string;
  readonly stages: readonly { readonly jobId: string; readonly stage: Stage }[];
}

/** A list as far as it was read. */
export interface Listed<Item> {
  readonly items: readonly Item[];
  /** Whether there are more. */
  readonly isPartial: boolean;
}

/**
 * Reads pages until the list ends, or so many items or pages were read. Pages can be short or empty, and have a token
 * if the list goes on.
 */
export async function listed<Item>(
  most: number,
  pages: number,
  read: (pageToken: string) => Promise<{ readonly items: readonly Item[]; readonly nextPageToken: string }>,
): Promise<Listed<Item>> {
  const all: Item[] = [];
  let pageToken = "";
  for (let page = 0; page < pages && all.length < most; page += 1) {
    const { items, nextPageToken } = await read(pageToken);
    all.push(...items);
    pageToken = nextPageToken;
    if (pageToken === "") {
      break;
    }
  }
  return { items: all, isPartial: pageToken !== "" };
}

/** A count that ends at a bound: `10,000+` where there are more. */
export function bounded(value: number, isCapped: boolean): string {
  return isCapped ? `${count(value)}+` : count(value);
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
