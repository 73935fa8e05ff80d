// The jobs that the list shows.
import type { Job } from "../client/gen/interlock/v1/job_pb.js";
import type { JobsEvent } from "../client/jobs_watch.js";

/** Jobs, the newest first. */
export class Board {
  readonly jobs = new Map<string, Job>();
  /** Whether all jobs that matched at the beginning are there. */
  isComplete = false;
  #order: Job[] | undefined;

  /** Applies an event of the watch. */
  take(event: JobsEvent): void {
    switch (event.type) {
      case "appeared":
        this.put(event.job);
        break;
      case "changed":
        this.put(event.job);
        break;
      case "removed":
        this.jobs.delete(event.job.jobId);
        this.#order = undefined;
        break;
      case "caughtUp":
        this.isComplete = true;
    }
  }

  put(job: Job): void {
    if (!this.jobs.has(job.jobId)) {
      this.#order = undefined;
    }
    this.jobs.set(job.jobId, job);
  }

  /** The ids of the jobs whose id contains a text, the newest first. */
  ids(search: string): string[] {
    // Changes of a job do not move it, so that the order is kept until jobs come or go.
    this.#order ??= [...this.jobs.values()].sort(newestFirst);
    const ids = this.#order.map((job) => job.jobId);
    const text = search.trim().toLowerCase();
    return text === "" ? ids : ids.filter((id) => id.toLowerCase().includes(text));
  }

  /** The number of jobs by state. */
  counts(): Map<number, number> {
    const counts = new Map<number, number>();
    for (const { state } of this.jobs.values()) {
      counts.set(state, (counts.get(state) ?? 0) + 1);
    }
    return counts;
  }
}

function newestFirst(one: Job, other: Job): number {
  const [a, b] = [one.createTime, other.createTime];
  const seconds = Number((b?.seconds ?? 0n) - (a?.seconds ?? 0n));
  return seconds || (b?.nanos ?? 0) - (a?.nanos ?? 0) || (one.jobId < other.jobId ? -1 : 1);
}
