// Small parts that all views use.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { JobState, StageState } from "../client/gen/interlock/v1/job_pb.js";
import { absolute, duration, percent, relative, words } from "../logic/format.js";
import { useClock } from "../value.js";

/** A text of a user. It is isolated, so that its direction does not turn what is beside it. */
export function Text({ value }: { readonly value: string }) {
  return <bdi class="text">{value}</bdi>;
}

/** Characters of a long text that are shown at first. */
const SHOWN = 2_000;

/** A text of a user that can be long; its rest is shown on demand. */
export function LongText({ value, code = false }: { readonly value: string; readonly code?: boolean }) {
  const [isOpen, open] = useState(false);
  const isCut = value.length > SHOWN && !isOpen;
  // A surrogate pair must not be cut in two.
  const shown = isCut ? value.slice(0, SHOWN).replace(/[\uD800-\uDBFF]$/, "") : value;
  const body = code ? (
    <pre class="code" dir="auto">
      {shown}
    </pre>
  ) : (
    <Text value={shown} />
  );
  return (
    <>
      {body}
      {isCut && (
        <button type="button" class="link" onClick={() => open(true)}>
          Show all {value.length.toLocaleString("en")} characters
        </button>
      )}
    </>
  );
}

/** A document as JSON. */
export function Json({ value }: { readonly value: unknown }) {
  return <LongText code value={JSON.stringify(value, null, 2) ?? "null"} />;
}

/** A time relative to now. */
export function Ago({ at }: { readonly at: number | undefined }) {
  const now = useClock();
  if (at === undefined || Number.isNaN(at)) {
    return <span class="dim">–</span>;
  }
  return (
    <time dateTime={new Date(at).toISOString()} title={absolute(at)}>
      {relative(at, now)}
    </time>
  );
}

/** The time from one moment to another, or to now. */
export function Lasting({ from, to }: { readonly from: number | undefined; readonly to: number | undefined }) {
  const now = useClock();
  return from === undefined ? <span class="dim">–</span> : <span>{duration((to ?? now) - from)}</span>;
}

/** The state of a job or stage, in its colour and as a word. */
export function State({ name }: { readonly name: string | undefined }) {
  return <span class={`state ${(name ?? "unknown").toLowerCase()}`}>{words(name)}</span>;
}

export function JobStateTag({ state }: { readonly state: JobState }) {
  return <State name={JobState[state]} />;
}

export function StageStateTag({ state }: { readonly state: StageState }) {
  return <State name={StageState[state]} />;
}

interface BarProps {
  readonly share: number;
  readonly label: string;
  readonly state?: string | undefined;
}

/** A progress bar with its figure. */
export function Bar({ share, label, state = "running" }: BarProps) {
  const now = Math.floor(Math.min(1, Math.max(0, share)) * 100);
  return (
    <span class="bar">
      <span
        class="track"
        role="progressbar"
        aria-label={label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={now}
      >
        <span class={`fill ${state.toLowerCase()}`} style={{ transform: `scaleX(${Math.min(1, share)})` }} />
      </span>
      <span class="figure" aria-hidden="true">
        {percent(share)}
      </span>
    </span>
  );
}

/** A section with a heading. */
export function Panel({ title, children, tools }: PanelProps) {
  return (
    <section class="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
        {tools}
      </header>
      {children}
    </section>
  );
}

interface PanelProps {
  readonly title: string;
  readonly children: ComponentChildren;
  readonly tools?: ComponentChildren;
}

/** Names and values. Undefined values are left out. */
export function Facts({ of }: { readonly of: readonly (readonly [string, ComponentChildren | undefined])[] }) {
  return (
    <dl class="facts">
      {of
        .filter(([, value]) => value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** Labels of a job or session. */
export function Labels({ of }: { readonly of: Readonly<Record<string, string>> }) {
  const all = Object.entries(of).sort(([one], [other]) => (one < other ? -1 : 1));
  return (
    <span class="labels">
      {all.map(([key, value]) => (
        <span key={key} class="label">
          <Text value={key} />={<Text value={value} />}
        </span>
      ))}
    </span>
  );
}

/** Shown instead of a list without entries. */
export function Empty({ children }: { readonly children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** An error of a view. */
export function Fault({ text }: { readonly text: string | undefined }) {
  return text === undefined ? null : (
    <p class="fault" role="alert">
      {text}
    </p>
  );
}
