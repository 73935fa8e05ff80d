// One job: its stages as a graph, why it waits, its history, and what can be done with it.
import { useMemo, useRef, useState } from "preact/hooks";
import { type Job, JobState } from "../client/gen/interlock/v1/job_pb.js";
import { type ExplainJobResponse, StageWaitReason } from "../client/gen/interlock/v1/job_service_pb.js";
import { isTerminal } from "../client/job_watch.js";
import { count, ms, words } from "../logic/format.js";
import { act } from "../parts/ask.js";
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
import { useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { href, route, setQuery } from "../router.js";
import { useFrames, useValue } from "../value.js";
import { Graph } from "./graph.js";
import { History } from "./history.js";
import { Actions } from "./job_actions.js";
import { allStages, follow, type JobModel, readHistory, readMore } from "./job_model.js";
import { StagePanel } from "./stage.js";

export function JobView({ jobId }: { readonly jobId: string }) {
  const frames = useFrames();
  const { query } = useValue(route);
  const [rounds, again] = useState(0);
  const held = useRef<JobModel>({
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
