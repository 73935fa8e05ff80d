// What can be done with a job: pause, resume, cancel, retry.
import { call } from "../api.js";
import { type Job, JobState } from "../client/gen/interlock/v1/job_pb.js";
import { JobService } from "../client/gen/interlock/v1/job_service_pb.js";
import { isTerminal } from "../client/job_watch.js";
import { act, ask } from "../parts/ask.js";

/** What can be done with a job in its state. */
export function Actions({ job, changed }: { readonly job: Job; readonly changed: () => void }) {
  const { jobId, state } = job;
  const hasEnded = isTerminal(state);
  const canPause = state === JobState.PENDING || state === JobState.RUNNING;
  const pause = () =>
    act(async () => {
      await call(JobService.method.pauseJob, { jobId });
      return "The job is paused.";
    });
  const resume = () =>
    act(async () => {
      await call(JobService.method.resumeJob, { jobId });
      return "The job goes on.";
    });
  const cancel = () =>
    ask({
      title: "Cancel the job?",
      text: `${jobId} ends as cancelled; workers get 30 s to stop.`,
      action: "Cancel the job",
      fields: [{ name: "reason", label: "Reason" }],
      run: async ({ reason = "" }) => {
        await call(JobService.method.cancelJob, { jobId, reason });
        return "A cancel was requested.";
      },
    });
  const retry = () =>
    ask({
      title: "Start another run?",
      text: `Stages of ${jobId} that have not succeeded run again.`,
      action: "Retry",
      run: async () => {
        await call(JobService.method.retryJob, { jobId });
        changed();
        return "Another run has started.";
      },
    });
  return (
    <span class="actions">
      {canPause && (
        <button type="button" onClick={pause}>
          Pause
        </button>
      )}
      {state === JobState.PAUSED && (
        <button type="button" onClick={resume}>
          Resume
        </button>
      )}
      {!hasEnded && state !== JobState.CANCELLING && (
        <button type="button" onClick={cancel}>
          Cancel
        </button>
      )}
      {(state === JobState.FAILED || state === JobState.CANCELLED) && (
        <button type="button" onClick={retry}>
          Retry
        </button>
      )}
    </span>
  );
}
