// Commands about sessions of the scenarios of clients/conformance, with the names of the protos and times in seconds.
import {
  type Client,
  ExportFormat,
  type InterlockError,
  type SegmentInput,
  SegmentKind,
  SegmentSkip,
  SegmentStatus,
  SessionState,
  type StoredSegment,
  Untimed,
} from "../src/index.js";

// biome-ignore lint/suspicious/noExplicitAny: commands are JSON.
type Command = Record<string, any>;
type Append = readonly { readonly applied: boolean; readonly skip: SegmentSkip }[];

/** The path of the first field at fault. Empty: none. */
export function fieldOf(error: Partial<InterlockError> | undefined): string {
  return error?.violations?.[0]?.field ?? "";
}

/** Does a command. Undefined: there is no such command. */
export async function doSession(
  client: Client,
  it: Command,
  errorOf: (error: unknown) => string,
): Promise<object | undefined> {
  const session = client.session(it.session_id);
  const one = { key: it.key, kind: SegmentKind.TRANSCRIPT, text: it.text };
  switch (it.do) {
    case "open_session":
      await client.openSession({ sessionId: it.session_id, title: it.title });
      return {};
    case "append":
      return appended(await session.append(it.segments.map(segment)));
    case "interim":
      return appended(await session.interim(one));
    case "final":
      return appended(await session.final(one));
    case "write": {
      const results = await session.write(it.segments.map(segment));
      return {
        applied: results.map(({ result }) => result?.applied ?? false),
        errors: results.map(({ error }) => (error === undefined ? "" : errorOf(error))),
        fields: results.map(({ error }) => fieldOf(error)),
      };
    }
    case "import_segments": {
      const { applied, unchanged, failed, faults } = await session.import(imported(it));
      return {
        applied,
        unchanged,
        failed,
        faults: faults.map(({ index, key, error }) => [index, key, fieldOf(error)]),
      };
    }
    case "correct":
      await session.correct(await session.segment(it.key), { text: it.text });
      return {};
    case "delete_segment":
      await session.deleteSegment(it.key);
      return {};
    case "end_session":
      await session.end();
      return {};
    default:
      return await readSession(client, it);
  }
}

async function readSession(client: Client, it: Command): Promise<object | undefined> {
  const session = client.session(it.session_id);
  switch (it.do) {
    case "timeline": {
      const untimed = it.untimed && Untimed[it.untimed as keyof typeof Untimed];
      const segments = [];
      for await (const found of session.timeline({ startMs: it.start_ms, endMs: it.end_ms, untimed })) {
        segments.push([found.key, found.text, statusOf(found)]);
      }
      return { segments };
    }
    case "search": {
      const found = [];
      for await (const { segment, snippet, matches } of session.search(it.query)) {
        const marked = matches.reduceRight(
          (text, { start, end }) => `${text.slice(0, start)}[${text.slice(start, end)}]${text.slice(end)}`,
          snippet,
        );
        found.push([segment.key, marked]);
      }
      return { matches: found };
    }
    case "export": {
      const parts = [];
      const format = ExportFormat[it.format as keyof typeof ExportFormat];
      for await (const part of session.export(format, { language: it.language })) {
        parts.push(part);
      }
      return { text: Buffer.concat(parts).toString() };
    }
    case "statistics": {
      const { speakers } = await session.statistics();
      return { spoken: Object.fromEntries(speakers.map(({ speaker, spokenMs }) => [speaker, spokenMs / 1000])) };
    }
    default:
      return undefined;
  }
}

/** Follows a session. */
export async function watchSession(client: Client, it: Command, emit: (event: string, values: object) => void) {
  const watch = it.id;
  for await (const { session, segments, deleted, reset } of client.session(it.session_id).watch()) {
    if (reset && session !== undefined) {
      emit("session_replaced", { watch });
    }
    if (segments.length === 0 && deleted.length === 0) {
      emit("session", { watch, state: session === undefined ? null : SessionState[session.state] });
    }
    for (const found of segments) {
      emit("segment", { watch, key: found.key, text: found.text, status: statusOf(found) });
    }
    for (const key of deleted) {
      emit("segment_deleted", { watch, key });
    }
  }
}

function segment(given: Command): SegmentInput {
  return {
    key: given.key,
    kind: SegmentKind[(given.kind ?? "TRANSCRIPT") as keyof typeof SegmentKind],
    status: given.status && SegmentStatus[given.status as keyof typeof SegmentStatus],
    sequence: given.sequence,
    parentKey: given.parent_key,
    startMs: given.start === undefined ? undefined : given.start * 1000,
    endMs: given.end === undefined ? undefined : given.end * 1000,
    speaker: given.speaker,
    language: given.language,
    text: given.text,
  };
}

/** The notes of an import: `count` of them, of which the one at `wrong` ends before it starts. */
function* imported(it: Command): Generator<SegmentInput> {
  for (let place = 0; place < it.count; place += 1) {
    const key = `n${String(place).padStart(5, "0")}`;
    yield { key, kind: SegmentKind.NOTE, text: "x", startMs: 1_000, endMs: place === it.wrong ? 0 : 2_000 };
  }
}

function statusOf(found: StoredSegment): string {
  return SegmentStatus[found.status] ?? "";
}

function appended(results: Append): object {
  const skip = results.map((result) => (result.skip === SegmentSkip.UNSPECIFIED ? "" : SegmentSkip[result.skip]));
  return { applied: results.map(({ applied }) => applied), skip };
}
