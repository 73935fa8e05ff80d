// The list of jobs, live.
import { useMemo, useState } from "preact/hooks";
import { call, epoch, openStream } from "../api.js";
import { ResourceExhausted } from "../client/errors.js";
import { type Job, JobState } from "../client/gen/interlock/v1/job_pb.js";
import { JobService } from "../client/gen/interlock/v1/job_service_pb.js";
import { JobsWatch } from "../client/jobs_watch.js";
import { Board } from "../logic/board.js";
import { jobFilter } from "../logic/filter.js";
import { count, ms } from "../logic/format.js";
import { Ago, Bar, Empty, Fault, JobStateTag, Labels, Text } from "../parts/basics.js";
import { List } from "../parts/list.js";
import { everyFew, useTask } from "../parts/live.js";
import { useNarrow } from "../parts/narrow.js";
import { href, namespace, route, setQuery } from "../router.js";
import { useFrames, useValue } from "../value.js";

const STATES = ["PENDING", "RUNNING", "PAUSED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"];
/** Height of a row in pixels, as in the style sheet. */
const ROW = 44;
const NARROW_ROW = 76;
/** Interval of reads where there are too many jobs for a watch. */
const LIST_MS = 3_000;
const LIST_SIZE = 200;

export function JobsView() {
  const { query } = useValue(route);
  const place = useValue(namespace);
  const age = useValue(epoch);
  const states = (query.get("state") ?? "").split(",").filter((state) => STATES.includes(state));
  const kind = query.get("kind") ?? "";
  const labels = query.get("label") ?? "";
  const filter = jobFilter({ states, kind, labels });
  const [search, setSearch] = useState("");
  const [isPartial, setPartial] = useState(false);
  const frames = useFrames();
  const board = useMemo(() => new Board(), [filter, place, age]);
  const fault = useTask(
    async (signal) => {
      setPartial(false);
      const watch = new JobsWatch((beginAgain) => {
        const request = () => {
          beginAgain();
          return { filter };
        };
        return openStream(JobService.method.watchJobs, request, signal);
      });
      try {
        for await (const event of watch) {
          board.take(event);
          frames();
        }
      } catch (error) {
        if (!(error instanceof ResourceExhausted)) {
          throw error;
        }
        setPartial(true);
        await readAgain(board, filter, signal, frames);
      }
    },
    [board],
  );
  const narrow = useNarrow();
  const ids = board.ids(search);
  const counts = board.counts();
  const toggle = (state: string) => {
    const next = states.includes(state) ? states.filter((one) => one !== state) : [...states, state];
    setQuery({ state: next.join(",") });
  };
  return (
    <>
      <h1 class="hidden">Jobs</h1>
      <form class="filters" aria-label="Filter of jobs" onSubmit={(event) => event.preventDefault()}>
        <fieldset class="chips">
          <legend class="hidden">States</legend>
          {STATES.map((state) => (
            <button key={state} type="button" aria-pressed={states.includes(state)} onClick={() => toggle(state)}>
              {state.charAt(0) + state.slice(1).toLowerCase()}
              <Count of={counts.get(JobState[state as keyof typeof JobState])} />
            </button>
          ))}
        </fieldset>
        <Field label="Job id contains" value={search} onInput={setSearch} />
        <Field label="Kind" value={kind} onChange={(value) => setQuery({ kind: value })} />
        <Field label="Labels" value={labels} placeholder="team=acme" onChange={(value) => setQuery({ label: value })} />
      </form>
      <Fault text={fault} />
      <p class="summary">
        {count(ids.length)} {ids.length === 1 ? "job" : "jobs"}
        {isPartial && ` shown, the newest; more than 10,000 match: narrow the filter to follow all of them`}
      </p>
      {ids.length === 0 ? (
        <Empty>{board.isComplete ? "No job matches." : fault === undefined && "Reading jobs …"}</Empty>
      ) : (
        <List
          label="Jobs"
          count={ids.length}
          rowHeight={narrow ? NARROW_ROW : ROW}
          keyOf={(index) => ids[index] ?? ""}
          row={(index) => <Row job={board.jobs.get(ids[index] ?? "")} />}
        />
      )}
    </>
  );
}

function Count({ of }: { readonly of: number | undefined }) {
  return of === undefined ? null : <span class="count">{count(of)}</span>;
}

interface FieldProps {
  readonly label: string;
  readonly value: string;
  readonly placeholder?: string;
  readonly onInput?: (value: string) => void;
  readonly onChange?: (value: string) => void;
}

/** A field of the filter. `onInput`: at each character. `onChange`: when it is complete. */
function Field({ label, value, placeholder, onInput, onChange }: FieldProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="search"
        value={value}
        placeholder={placeholder ?? ""}
        onInput={(event) => onInput?.(event.currentTarget.value)}
        onChange={(event) => onChange?.(event.currentTarget.value)}
      />
    </label>
  );
}

function Row({ job }: { readonly job: Job | undefined }) {
  if (job === undefined) {
    return null;
  }
  const counts = job.stageCounts;
  const ended = (counts?.succeeded ?? 0) + (counts?.failed ?? 0) + (counts?.cancelled ?? 0) + (counts?.skipped ?? 0);
  return (
    <a class="job" href={href(["jobs", job.jobId])}>
      <span class="id">
        <Text value={job.jobId} />
      </span>
      <JobStateTag state={job.state} />
      <Bar share={job.progress} label={`Progress of ${job.jobId}`} state={JobState[job.state]} />
      <span class="stages">
        {count(ended)} of {count(counts?.total ?? 0)} stages
        {(counts?.failed ?? 0) > 0 && <span class="bad"> · {counts?.failed} failed</span>}
      </span>
      <span class="kind">
        <Text value={job.kind} /> <Labels of={job.labels} />
      </span>
      <span class="when">
        <Ago at={ms(job.createTime)} />
      </span>
    </a>
  );
}

/** Reads the newest jobs again and again. */
async function readAgain(board: Board, filter: string, signal: AbortSignal, shown: () => void): Promise<void> {
  await everyFew(LIST_MS, signal, async () => {
    const { jobs } = await call(JobService.method.listJobs, { filter, pageSize: LIST_SIZE }, signal);
    const ids = new Set(jobs.map(({ jobId }) => jobId));
    for (const job of jobs) {
      board.put(job);
    }
    for (const job of board.jobs.values()) {
      if (!ids.has(job.jobId)) {
        board.take({ type: "removed", job, deleted: undefined });
      }
    }
    board.isComplete = true;
    shown();
  });
}
