// The watch of all jobs that match a filter.
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Job } from "./gen/interlock/v1/job_pb.js";
import type { JobChange, WatchJobsResponse } from "./gen/interlock/v1/job_service_pb.js";
import { withChange } from "./job_watch.js";
import { type Stream, Watch } from "./stream.js";

/** One event of `Client.watchJobs`. Jobs come without their stages, payload and result. */
export type JobsEvent =
  /** A job matches the filter: at the start of the watch, or from now on. */
  | { readonly type: "appeared"; readonly job: Job }
  /** A job changed. `change` undefined: the stream was restarted, and changes of state in between can be missing. */
  | { readonly type: "changed"; readonly job: Job; readonly change: JobChange | undefined }
  /**
   * A job, in its last state, was deleted or does not match any more. `deleted` undefined: which of both is not known,
   * because it went while the stream was broken.
   */
  | { readonly type: "removed"; readonly job: Job; readonly deleted: boolean | undefined }
  /** All jobs that matched at the start have appeared. Sent once. `jobs`: their number. */
  | { readonly type: "caughtUp"; readonly jobs: number };

/** The iterator that `Client.watchJobs` returns. Does not end by itself. */
export class JobsWatch extends Watch<JobsEvent> {
  readonly #board = new Board();
  readonly #stream: Stream<WatchJobsResponse>;

  constructor(open: (beginAgain: () => void) => Stream<WatchJobsResponse>) {
    super();
    this.#stream = open(() => this.#board.beginAgain());
  }

  override close(): void {
    this.#board.events.length = 0;
    this.#stream.close();
  }

  protected override async read(): Promise<JobsEvent | undefined> {
    for (;;) {
      const event = this.#board.events.shift();
      if (event !== undefined) {
        return event;
      }
      const response = await this.#stream.readOn();
      if (response === undefined) {
        return undefined;
      }
      if (this.#board.take(response)) {
        this.#stream.confirm();
      } else {
        this.#stream.broke("a change was never sent");
      }
    }
  }
}

/** The jobs that have appeared. */
class Board {
  readonly events: JobsEvent[] = [];
  readonly #jobs = new Map<string, Job>();
  /** Jobs from earlier streams that this stream has not sent yet. */
  #unseen = new Set<string>();
  #hasCaughtUp = false;

  beginAgain(): void {
    this.#unseen = new Set(this.#jobs.keys());
  }

  /** Applies a message. False: it does not follow from the ones before. */
  take(response: WatchJobsResponse): boolean {
    const { update } = response;
    switch (update.case) {
      case "job":
        this.#job(update.value);
        return true;
      case "change":
        return this.#change(update.value);
      case "removal":
        this.#remove(update.value.jobId, update.value.deleted);
        return true;
      case "caughtUp":
        this.#caughtUp(update.value.jobs);
        return true;
      default:
        return true;
    }
  }

  #job(job: Job): void {
    this.#unseen.delete(job.jobId);
    let known = this.#jobs.get(job.jobId);
    if (known !== undefined && !isSameTime(known.createTime, job.createTime)) {
      // Another job with the same id.
      this.#remove(job.jobId, true);
      known = undefined;
    }
    if (known === undefined) {
      this.events.push({ type: "appeared", job });
    } else if (known.version < job.version) {
      this.events.push({ type: "changed", job, change: undefined });
    }
    this.#jobs.set(job.jobId, job);
  }

  #change(change: JobChange): boolean {
    const known = this.#jobs.get(change.jobId);
    if (known === undefined || known.version !== change.previousVersion) {
      return false;
    }
    const job = withChange(known, change);
    this.#jobs.set(change.jobId, job);
    this.events.push({ type: "changed", job, change });
    return true;
  }

  #remove(jobId: string, deleted: boolean | undefined): void {
    const job = this.#jobs.get(jobId);
    this.#jobs.delete(jobId);
    this.#unseen.delete(jobId);
    if (job !== undefined) {
      this.events.push({ type: "removed", job, deleted });
    }
  }

  #caughtUp(jobs: number): void {
    for (const jobId of [...this.#unseen].sort()) {
      this.#remove(jobId, undefined);
    }
    if (!this.#hasCaughtUp) {
      this.#hasCaughtUp = true;
      this.events.push({ type: "caughtUp", jobs });
    }
  }
}

/** Whether two times, or two absences of one, are equal. */
export function isSameTime(one: Timestamp | undefined, other: Timestamp | undefined): boolean {
  return one?.seconds === other?.seconds && one?.nanos === other?.nanos;
}
