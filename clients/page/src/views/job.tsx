// One job: its stages as a graph, why it waits, its history, and what can be done with it.
import { create } from "@bufbuild/protobuf";
import { useMemo, useRef, useState } from "preact/hooks";
import { call, openStream } from "../api.js";
import { NotFound, VersionInFuture } from "../client/errors.js";
import { type Job, JobSchema, JobState, type Stage } from "../client/gen/interlock/v1/job_pb.js";
import {
  type ExplainJobResponse,
  type JobEvent,
  JobService,
  StageWaitReason,
} from "../client/gen/interlock/v1/job_service_pb.js";
import { isTerminal, JobWatch } from "../client/job_watch.js";
import { count, ms, words } from "../logic/format.js";
import { act, ask } from "../parts/ask.js";
import {
  Ago,
  Bar,
  Empty,
  Facts,
  Fault,
  JobStateTag,
  Json,
  Labels,
  Lasting,
  LongText,
  Panel,
  Text,
} from "../parts/basics.js";
import { FailureBox } from "../parts/failure.js";
import { everyFew, useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { href, route, setQuery } from "../router.js";
import { useFrames, useValue } from "../value.js";
import { Graph } from "./graph.js";
import { History } from "./history.js";
import { StagePanel } from "./stage.js";

/** Interval of reads of a job that has ended, which another run can start again. */
const ENDED_MS = 5_000;
/** Interval of looks whether history and reason are to be read again. */
const LOOK_MS = 700;
/** Looks after which the reason is read again although the job did not change: leases and backoffs end. */
const REASON_LOOKS = 6;
const EVENTS = 200;

/** What is known about the job. */
interface Model {
  job: Job | undefined;
  /** Stages beyond those that one message holds. */
  more: ReadonlyMap<string, Stage>;
  events: readonly JobEvent[];
  hasMoreEvents: boolean;
  reason: ExplainJobResponse | undefined;
  isAbsent: boolean;
}

export function JobView({ jobId }: { readonly jobId: string }) {
  const frames = useFrames();
  const { query } = useValue(route);
  const [rounds, again] = useState(0);
  const held = useRef<Model>({
    job: undefined,
    more: new Map(),
    events: [],
    hasMoreEvents: false,
    reason: undefined,
    isAbsent: false,
  });
  const model = held.current;
  const fault = useTask((signal) => follow(jobId, model, signal, frames), [jobId, rounds]);
  useTask((signal) => readHistory(jobId, model, signal, frames), [jobId, rounds]);

  const { job } = model;
  const stages = useMemo(() => (job === undefined ? [] : allStages(job, model.more)), [job, model.more]);
  const selected = query.get("stage") ?? "";
  const stage = stages.find(({ name }) => name === selected);
  if (model.isAbsent) {
    return (
      <Empty>
        There is no job <Text value={jobId} />. <a href={href(["jobs"])}>All jobs</a>
      </Empty>
    );
  }
  if (job === undefined) {
    return fault === undefined ? <Empty>Reading the job …</Empty> : <Fault text={fault} />;
  }
  const select = (name: string) => setQuery({ stage: name === selected ? "" : name });
  const changed = () => again((n) => n + 1);
  return (
    <>
      <div class="title">
        <h1>
          <Text value={job.jobId} />
        </h1>
        <JobStateTag state={job.state} />
        <Actions job={job} changed={changed} />
      </div>
      <Fault text={fault} />
      <Bar share={job.progress} label="Progress of the job" state={JobState[job.state]} />
      <Reason job={job} reason={model.reason} />
      <FailureBox failure={job.failure} title="The job failed" />
      <div class={stage === undefined ? "split single" : "split"}>
        <Panel title={`Stages (${count(job.stageCounts?.total ?? stages.length)})`}>
          <Graph stages={stages} selected={selected} onSelect={select} />
        </Panel>
        {stage !== undefined && (
          <StagePanel
            key={stage.name}
            job={job}
            stage={stage}
            events={model.events}
            close={() => setQuery({ stage: "" })}
            changed={changed}
          />
        )}
      </div>
      <Waiting job={job} reason={model.reason} onSelect={select} />
      <Panel title="Details">
        <Details job={job} />
      </Panel>
      <History
        events={model.events}
        hasMore={model.hasMoreEvents}
        more={() => act(async () => readMore(jobId, model, frames))}
      />
    </>
  );
}

/** The stages of a message with those it has no room for. */
function allStages(job: Job, more: ReadonlyMap<string, Stage>): readonly Stage[] {
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
async function follow(jobId: string, model: Model, signal: AbortSignal, shown: () => void): Promise<void> {
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
async function untilAnotherRun(jobId: string, model: Model, signal: AbortSignal, shown: () => void): Promise<void> {
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
async function readHistory(jobId: string, model: Model, signal: AbortSignal, shown: () => void): Promise<void> {
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

async function readEvents(jobId: string, model: Model, signal?: AbortSignal): Promise<void> {
  const fromVersion = model.events.at(-1)?.version ?? 0n;
  const page = await call(JobService.method.listJobEvents, { jobId, fromVersion, pageSize: EVENTS }, signal);
  model.events = [...model.events, ...page.events.filter(({ version }) => version > fromVersion)];
  model.hasMoreEvents = page.nextPageToken !== "";
}

async function readMore(jobId: string, model: Model, shown: () => void): Promise<string> {
  await readEvents(jobId, model);
  shown();
  return `${count(model.events.length)} events`;
}

function Reason({ job, reason }: { readonly job: Job; readonly reason: ExplainJobResponse | undefined }) {
  const text = isTerminal(job.state) ? "" : (reason?.headline ?? "");
  return (
    <p class="reason" aria-live="polite">
      <Text value={text} />
      {job.cancelReason !== "" && (
        <>
          {" "}
          Cancelled because: <LongText value={job.cancelReason} />
        </>
      )}
    </p>
  );
}

interface WaitingProps {
  readonly job: Job;
  readonly reason: ExplainJobResponse | undefined;
  readonly onSelect: (name: string) => void;
}

/** The stages that wait, and for what. */
function Waiting({ job, reason, onSelect }: WaitingProps) {
  if (reason === undefined || isTerminal(job.state) || reason.stages.length === 0) {
    return null;
  }
  return (
    <Panel title="Why stages have not ended">
      <Table label="Why stages have not ended">
        <thead>
          <tr>
            <th scope="col">Stage</th>
            <th scope="col">Reason</th>
            <th scope="col">Waits for</th>
            <th scope="col">Until</th>
          </tr>
        </thead>
        <tbody>
          {reason.stages.slice(0, 20).map((stage) => (
            <tr key={stage.stageName}>
              <td>
                <button type="button" class="link" onClick={() => onSelect(stage.stageName)}>
                  <Text value={stage.stageName} />
                </button>
              </td>
              <td>{words(StageWaitReason[stage.reason])}</td>
              <td>
                <Blocker reason={stage.reason} name={stage.blocker} />
              </td>
              <td>{stage.untilTime && <Ago at={ms(stage.untilTime)} />}</td>
            </tr>
          ))}
        </tbody>
      </Table>
      {reason.stages.length > 20 && <p class="dim">and {reason.stages.length - 20} more</p>}
    </Panel>
  );
}

function Blocker({ reason, name }: { readonly reason: StageWaitReason; readonly name: string }) {
  if (reason === StageWaitReason.PERMIT) {
    return (
      <a href={href(["permits", name])}>
        <Text value={name} />
      </a>
    );
  }
  return <Text value={name} />;
}

function Details({ job }: { readonly job: Job }) {
  return (
    <>
      <Facts
        of={[
          ["Kind", <Text key="kind" value={job.kind} />],
          ["Run", job.run],
          ["Version", count(job.version)],
          ["Priority", job.priority],
          ["Labels", Object.keys(job.labels).length === 0 ? undefined : <Labels key="labels" of={job.labels} />],
          ["Submitted", <Ago key="created" at={ms(job.createTime)} />],
          ["Started", job.startTime && <Ago key="started" at={ms(job.startTime)} />],
          ["Ended", job.endTime && <Ago key="ended" at={ms(job.endTime)} />],
          ["Took", job.startTime && <Lasting key="took" from={ms(job.startTime)} to={ms(job.endTime)} />],
          ["Deleted", job.expireTime && <Ago key="deleted" at={ms(job.expireTime)} />],
        ]}
      />
      <Document title="Result" value={job.result} />
      <Document title="Payload" value={job.payload} />
      <Document title="Context" value={job.context} />
    </>
  );
}

function Document({ title, value }: { readonly title: string; readonly value: unknown }) {
  return value === undefined ? null : (
    <details open={title === "Result"}>
      <summary>{title}</summary>
      <Json value={value} />
    </details>
  );
}

/** What can be done with a job in its state. */
function Actions({ job, changed }: { readonly job: Job; readonly changed: () => void }) {
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
