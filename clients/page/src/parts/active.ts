// The jobs that have not ended, with their stages.
import { call } from "../api.js";
import { NotFound } from "../client/errors.js";
import type { Job } from "../client/gen/interlock/v1/job_pb.js";
import { JobService } from "../client/gen/interlock/v1/job_service_pb.js";

/** Jobs that are read with their stages. */
const JOBS = 100;
const FILTER = "state = PENDING OR state = RUNNING OR state = CANCELLING";

/** Reads the jobs that have not ended, each again only if it has changed. */
export class ActiveJobs {
  jobs: ReadonlyMap<string, Job> = new Map();
  /** Whether there are more jobs than were read. */
  isPartial = false;

  async read(signal: AbortSignal): Promise<void> {
    const request = { filter: FILTER, orderBy: "create_time", pageSize: JOBS };
    const { jobs, nextPageToken } = await call(JobService.method.listJobs, request, signal);
    this.isPartial = nextPageToken !== "";
    const read = new Map<string, Job>();
    for (const job of jobs) {
      const known = this.jobs.get(job.jobId);
      const whole = known?.version === job.version ? known : await this.#whole(job, signal);
      if (whole !== undefined) {
        read.set(job.jobId, whole);
      }
    }
    this.jobs = read;
  }

  async #whole(job: Job, signal: AbortSignal): Promise<Job | undefined> {
    const counts = job.stageCounts;
    if ((counts?.ready ?? 0) + (counts?.running ?? 0) + (counts?.backoff ?? 0) === 0) {
      return job;
    }
    try {
      return (await call(JobService.method.getJob, { jobId: job.jobId }, signal)).job;
    } catch (error) {
      if (error instanceof NotFound) {
        return undefined;
      }
      throw error;
    }
  }
}
