// One stage of a job.
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api.js";
import { type Job, type Stage, StageState } from "../client/gen/interlock/v1/job_pb.js";
import { type JobEvent, JobService } from "../client/gen/interlock/v1/job_service_pb.js";
import { isTerminal } from "../client/job_watch.js";
import { count, ms } from "../logic/format.js";
import { ask } from "../parts/ask.js";
import { Ago, Bar, Facts, Fault, Json, Lasting, LongText, Panel, StageStateTag, Text } from "../parts/basics.js";
import { FailureBox } from "../parts/failure.js";
import { useTask } from "../parts/live.js";
import { useNarrow } from "../parts/narrow.js";
import { href } from "../router.js";

interface StagePanelProps {
  readonly job: Job;
  readonly stage: Stage;
  readonly events: readonly JobEvent[];
  readonly close: () => void;
  readonly changed: () => void;
}

export function StagePanel({ job, stage, events, close, changed }: StagePanelProps) {
  const [whole, setWhole] = useState<Stage | undefined>(undefined);
  // The stream has neither input nor artifacts.
  const fault = useTask(
    async (signal) => {
      const { jobId } = job;
      const response = await call(JobService.method.getStage, { jobId, stageName: stage.name }, signal);
      setWhole(response.stage);
    },
    [job.jobId, stage.name, stage.state, job.run],
  );
  // On a phone it is below the graph, out of sight.
  const frame = useRef<HTMLDivElement>(null);
  const isNarrow = useNarrow();
  useEffect(() => {
    if (isNarrow && stage.name !== "") {
      frame.current?.scrollIntoView({ block: "start" });
    }
  }, [isNarrow, stage.name]);
  const replay = () =>
    ask({
      title: "Replay from this stage?",
      text: `${stage.name} and all that depends on it run again, also what has succeeded.`,
      action: "Replay",
      run: async () => {
        await call(JobService.method.retryJob, { jobId: job.jobId, fromStage: stage.name });
        changed();
        return "Another run has started.";
      },
    });
  const tools = (
    <span class="actions">
      {isTerminal(job.state) && (
        <button type="button" onClick={replay}>
          Replay from here
        </button>
      )}
      <button type="button" onClick={close} aria-label="Close the stage">
        Close
      </button>
    </span>
  );
  const artifacts = stage.artifacts ?? whole?.artifacts;
  return (
    <div ref={frame}>
      <Panel title={`Stage ${stage.name}`} tools={tools}>
        <p class="inline">
          <StageStateTag state={stage.state} />
          {stage.state === StageState.RUNNING && <Bar share={stage.progress} label={`Progress of ${stage.name}`} />}
        </p>
        <Fault text={fault} />
        {stage.message !== "" && <LongText value={stage.message} />}
        <StageFacts stage={stage} />
        <FailureBox failure={stage.failure} title="Last failure" />
        <Attempts stage={stage} events={events} />
        <Document title="Artifacts" value={artifacts} isOpen />
        <Document title="Input" value={whole?.input} />
      </Panel>
    </div>
  );
}

function StageFacts({ stage }: { readonly stage: Stage }) {
  const attempts = stage.attempt === 0 ? `none of ${stage.maxAttempts}` : `${stage.attempt} of ${stage.maxAttempts}`;
  return (
    <Facts
      of={[
        ["Attempt", attempts],
        ["Queue", <Text key="queue" value={stage.queue} />],
        ["Worker", stage.lease && <Text key="worker" value={stage.lease.workerId} />],
        ["Lease ends", stage.lease && <Ago key="lease" at={ms(stage.lease.expireTime)} />],
        ["Next attempt", stage.nextAttemptTime && <Ago key="next" at={ms(stage.nextAttemptTime)} />],
        ["Started", stage.startTime && <Ago key="start" at={ms(stage.startTime)} />],
        ["Took", takes(stage) && <Lasting key="took" from={ms(stage.startTime)} to={ms(stage.endTime)} />],
        ["Waits for", stage.dependsOn.length === 0 ? undefined : <Names key="depends" of={stage.dependsOn} />],
        ["Permits", stage.permits.length === 0 ? undefined : <Permits key="permits" stage={stage} />],
        ["Group", stage.groupKey === "" ? undefined : <Text key="group" value={stage.groupKey} />],
        ["Version", count(stage.version)],
      ]}
    />
  );
}

/** Whether an attempt runs or the stage has ended: in between there is nothing that takes time. */
function takes({ state, startTime, endTime }: Stage): boolean | undefined {
  return startTime === undefined ? undefined : state === StageState.RUNNING || endTime !== undefined || undefined;
}

/** Names that are shown at most. */
const NAMES = 30;

function Names({ of }: { readonly of: readonly string[] }) {
  return (
    <>
      {of.slice(0, NAMES).map((name, index) => (
        <span key={name}>
          {index > 0 && ", "}
          <Text value={name} />
        </span>
      ))}
      {of.length > NAMES && ` and ${of.length - NAMES} more`}
    </>
  );
}

function Permits({ stage }: { readonly stage: Stage }) {
  return (
    <>
      {stage.permits.map(({ resource, amount }, index) => (
        <span key={resource}>
          {index > 0 && ", "}
          <a href={href(["permits", resource])}>
            <Text value={resource} />
          </a>
          {amount > 1n && ` × ${amount}`}
        </span>
      ))}
    </>
  );
}

/** Failed attempts of the stage before the last one. */
function Attempts({ stage, events }: { readonly stage: Stage; readonly events: readonly JobEvent[] }) {
  const failures = events.flatMap(({ version, run, stageChanges }) =>
    stageChanges
      .filter(({ stageName, failure }) => stageName === stage.name && failure !== undefined)
      .map(({ failure }) => ({ version, run, failure })),
  );
  if (failures.length === 0) {
    return null;
  }
  return (
    <details>
      <summary>Failed attempts ({failures.length})</summary>
      {failures.map(({ version, run, failure }) => (
        <FailureBox key={version} failure={failure} title={`Run ${run}`} />
      ))}
    </details>
  );
}

interface DocumentProps {
  readonly title: string;
  readonly value: unknown;
  readonly isOpen?: boolean;
}

function Document({ title, value, isOpen = false }: DocumentProps) {
  return value === undefined ? null : (
    <details open={isOpen}>
      <summary>{title}</summary>
      <Json value={value} />
    </details>
  );
}
