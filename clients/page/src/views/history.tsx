// The history of a job.
import { useState } from "preact/hooks";
import { JobState, StageState } from "../client/gen/interlock/v1/job_pb.js";
import { type JobEvent, JobEventType, type StageChange } from "../client/gen/interlock/v1/job_service_pb.js";
import { absolute, count, ms, words } from "../logic/format.js";
import { Empty, LongText, Panel, Text } from "../parts/basics.js";

/** Events that are shown at first. */
const SHOWN = 50;
/** Stages of one event that are shown. */
const CHANGES = 5;

interface HistoryProps {
  readonly events: readonly JobEvent[];
  readonly hasMore: boolean;
  readonly more: () => void;
}

export function History({ events, hasMore, more }: HistoryProps) {
  const [size, setSize] = useState(SHOWN);
  const shown = events.slice(-size).reverse();
  return (
    <Panel title="History">
      {events.length === 0 && <Empty>No event yet.</Empty>}
      {hasMore && (
        <p>
          {count(events.length)} events are read.{" "}
          <button type="button" class="link" onClick={more}>
            Read newer ones
          </button>
        </p>
      )}
      <ol class="history" reversed>
        {shown.map((event) => (
          <Event key={event.version} event={event} />
        ))}
      </ol>
      {events.length > size && (
        <button type="button" class="link" onClick={() => setSize(size + 4 * SHOWN)}>
          Show earlier events ({count(events.length - size)})
        </button>
      )}
    </Panel>
  );
}

function Event({ event }: { readonly event: JobEvent }) {
  const time = ms(event.eventTime);
  const changes = event.stageChanges;
  return (
    <li>
      <span class="when">{time !== undefined && absolute(time)}</span>
      <span class="what">
        {words(JobEventType[event.eventType])}
        <span class="dim">
          {" "}
          by <Text value={event.actor} /> · version {count(event.version)} · job{" "}
          {words(JobState[event.jobState]).toLowerCase()}
          {event.run > 1 && ` · run ${event.run}`}
        </span>
        {changes.slice(0, CHANGES).map((change) => (
          <Change key={change.stageName} change={change} />
        ))}
        {changes.length > CHANGES && <span class="change dim">and {changes.length - CHANGES} more stages</span>}
      </span>
    </li>
  );
}

function Change({ change }: { readonly change: StageChange }) {
  return (
    <span class="change">
      <Text value={change.stageName} />: {words(StageState[change.state]).toLowerCase()}
      {change.attempt > 1 && `, attempt ${change.attempt}`}
      {change.failure !== undefined && change.failure.message !== "" && (
        <>
          {" · "}
          <span class="bad">
            <LongText value={change.failure.message} />
          </span>
        </>
      )}
    </span>
  );
}
