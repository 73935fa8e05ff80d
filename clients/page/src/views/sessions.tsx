// Sessions, their live captions, and the search.
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, openStream } from "../api.js";
import { SegmentKind, SegmentStatus, type Session, SessionState } from "../client/gen/interlock/v1/timeline_pb.js";
import {
  type GetSessionStatisticsResponse,
  type SearchResult,
  TimelineService,
} from "../client/gen/interlock/v1/timeline_service_pb.js";
import type { StoredSegment } from "../client/segments.js";
import { SessionWatch } from "../client/session_watch.js";
import type { StoredSession } from "../client/sessions.js";
import { Captions, marked } from "../logic/captions.js";
import { count, duration, durationMs, ms, position, words } from "../logic/format.js";
import { Ago, Empty, Facts, Fault, Labels, LongText, Panel, State, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { href, namespace, route, setQuery } from "../router.js";
import { useFrames, useValue } from "../value.js";

const READ_MS = 3_000;
const PAGE = 100;
/** Segments that are shown at first. */
const SHOWN = 200;

export function SessionsView({ sessionId }: { readonly sessionId: string | undefined }) {
  return sessionId === undefined ? <Sessions /> : <SessionView key={sessionId} sessionId={sessionId} />;
}

function Sessions() {
  const frames = useFrames();
  const place = useValue(namespace);
  const { query } = useValue(route);
  const search = query.get("q") ?? "";
  const held = useMemo(() => ({ sessions: undefined as readonly Session[] | undefined, hasMore: false }), [place]);
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        const page = await call(TimelineService.method.listSessions, { pageSize: PAGE }, signal);
        held.sessions = page.sessions;
        held.hasMore = page.nextPageToken !== "";
        frames();
      }),
    [held],
  );
  const { sessions } = held;
  return (
    <>
      <h1 class="hidden">Sessions</h1>
      <SearchForm search={search} />
      {search !== "" && <Found search={search} filter="" />}
      <Fault text={fault} />
      <Panel title="Sessions">
        {held.hasMore && <p class="dim">The newest {PAGE}.</p>}
        {sessions === undefined || sessions.length === 0 ? (
          <Empty>{sessions === undefined ? fault === undefined && "Reading sessions …" : "No session."}</Empty>
        ) : (
          <Table label="Sessions">
            <thead>
              <tr>
                <th scope="col">Session</th>
                <th scope="col">Title</th>
                <th scope="col">State</th>
                <th scope="col" class="number">
                  Segments
                </th>
                <th scope="col">Last change</th>
              </tr>
            </thead>
            <tbody>
              {sessions.map((session) => (
                <tr key={session.sessionId}>
                  <th scope="row">
                    <a href={href(["sessions", session.sessionId])}>
                      <Text value={session.sessionId} />
                    </a>
                  </th>
                  <td class="wide">
                    <Text value={session.title} /> <Labels of={session.labels} />
                  </td>
                  <td>
                    <State name={SessionState[session.state]} />
                  </td>
                  <td class="number">{count(session.segmentCount)}</td>
                  <td>
                    <Ago at={ms(session.updateTime)} />
                  </td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
      </Panel>
    </>
  );
}

function SearchForm({ search }: { readonly search: string }) {
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    setQuery({ q: String(new FormData(event.currentTarget as HTMLFormElement).get("q") ?? "").trim() });
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements: browsers of two years ago do not know the element `search`.
    <form class="filters" role="search" onSubmit={onSubmit}>
      <label class="field">
        <span>Words that were said</span>
        <input type="search" name="q" defaultValue={search} placeholder='"a phrase" -without' />
      </label>
      <button type="submit">Search</button>
    </form>
  );
}

interface FoundProps {
  readonly search: string;
  readonly filter: string;
}

function Found({ search, filter }: FoundProps) {
  const [found, setFound] = useState<{ results: readonly SearchResult[]; token: string } | undefined>(undefined);
  const fault = useTask(
    async (signal) => {
      setFound(undefined);
      const page = await call(TimelineService.method.searchSegments, { query: search, filter, pageSize: 50 }, signal);
      setFound({ results: page.results, token: page.nextPageToken });
    },
    [search, filter],
  );
  const close = (
    <button type="button" onClick={() => setQuery({ q: "" })}>
      Close
    </button>
  );
  return (
    <Panel title={`Found for ${search}`} tools={close}>
      <Fault text={fault} />
      {found?.results.length === 0 && <Empty>Nothing was found. Only final segments are searched.</Empty>}
      <ul class="captions">
        {found?.results.map(({ sessionId, segment, snippet, matches }) => (
          <li key={`${sessionId} ${segment?.key}`}>
            <span class="at">{segment?.start && position(durationMs(segment.start) ?? 0)}</span>
            <span class="who">
              <Text value={segment?.speaker ?? ""} />
            </span>
            <span class="what" dir="auto">
              {marked(snippet, matches).map((part, index) =>
                part.isMatch ? <mark key={index}>{part.text}</mark> : <Text key={index} value={part.text} />,
              )}
            </span>
            <a class="tag" href={href(["sessions", sessionId])}>
              <Text value={sessionId} />
            </a>
          </li>
        ))}
      </ul>
      {found !== undefined && found.token !== "" && <p class="dim">The best 50; add words to see others.</p>}
    </Panel>
  );
}

function SessionView({ sessionId }: { readonly sessionId: string }) {
  const frames = useFrames();
  const place = useValue(namespace);
  const { query } = useValue(route);
  const search = query.get("q") ?? "";
  const language = query.get("language") ?? "";
  const held = useMemo(
    () => ({ session: undefined as StoredSession | undefined, captions: new Captions(), isRead: false }),
    [place, sessionId],
  );
  const fault = useTask(
    async (signal) => {
      const open = (request: () => object) =>
        openStream(TimelineService.method.watchSession, () => ({ sessionId, ...request() }), signal);
      // After another key or namespace it starts again.
      held.captions.take({ ...NOTHING, reset: true });
      for await (const update of new SessionWatch(open, NOTHING.position)) {
        held.session = update.session;
        held.captions.take(update);
        held.isRead = true;
        frames();
      }
    },
    [held],
  );
  const { session, captions } = held;
  return (
    <>
      <div class="title">
        <h1>
          <Text value={session?.title || sessionId} />
        </h1>
        {session !== undefined && <State name={SessionState[session.state]} />}
      </div>
      <Fault text={fault} />
      {held.isRead && session === undefined && <Empty>This session does not exist yet, or was deleted.</Empty>}
      <SearchForm search={search} />
      {search !== "" && <Found search={search} filter={`session_id = "${sessionId}"`} />}
      {session !== undefined && (
        <>
          <Speech captions={captions} language={language} isLive={session.state === SessionState.OPEN} />
          <Panel title="Details">
            <Facts
              of={[
                ["Session", <Text key="id" value={sessionId} />],
                ["Segments", count(captions.size)],
                ["Created", <Ago key="created" at={session.createTime.getTime()} />],
                ["Ended", session.endTime && <Ago key="ended" at={session.endTime.getTime()} />],
                [
                  "Labels",
                  Object.keys(session.labels).length === 0 ? undefined : <Labels key="labels" of={session.labels} />,
                ],
              ]}
            />
          </Panel>
          <Speakers sessionId={sessionId} size={captions.size} />
        </>
      )}
    </>
  );
}

const NOTHING = {
  session: undefined,
  segments: [],
  deleted: [],
  reset: false,
  position: { version: 0n, createTime: undefined },
};

interface SpeechProps {
  readonly captions: Captions;
  readonly language: string;
  readonly isLive: boolean;
}

function Speech({ captions, language, isLive }: SpeechProps) {
  const [size, setSize] = useState(SHOWN);
  const frame = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const languages = captions.languages();
  const all = captions
    .list()
    .filter((segment) => segment.kind !== SegmentKind.AUDIO && (language === "" || segment.language === language));
  const shown = all.slice(-size);
  useLayoutEffect(() => {
    const element = frame.current;
    if (element !== null && follows.current && isLive) {
      element.scrollTop = element.scrollHeight;
    }
  });
  const onScroll = (event: Event) => {
    const { scrollTop, scrollHeight, clientHeight } = event.currentTarget as HTMLElement;
    follows.current = scrollHeight - scrollTop - clientHeight < 40;
  };
  const tools = languages.length > 1 && (
    <label class="namespace">
      <span>Language</span>
      <select value={language} onChange={(event) => setQuery({ language: event.currentTarget.value })}>
        <option value="">all</option>
        {languages.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <Panel title={isLive ? "Live captions" : "Captions"} tools={tools}>
      {all.length === 0 && <Empty>Nothing was said yet.</Empty>}
      <div class="speech" ref={frame} onScroll={onScroll} role="log" aria-live="off" aria-label="Captions">
        {all.length > size && (
          <button type="button" class="link" onClick={() => setSize(size + 5 * SHOWN)}>
            Show earlier ones ({count(all.length - size)})
          </button>
        )}
        <ul class="captions">
          {shown.map((segment) => (
            <Caption key={segment.key} segment={segment} />
          ))}
        </ul>
      </div>
    </Panel>
  );
}

function Caption({ segment }: { readonly segment: StoredSegment }) {
  const kind = (SegmentKind[segment.kind] ?? "").toLowerCase();
  const isInterim = segment.status === SegmentStatus.INTERIM;
  return (
    <li class={`${kind}${isInterim ? " interim" : ""}`}>
      <span class="at">{segment.startMs !== undefined && position(segment.startMs)}</span>
      <span class="who">
        <Text value={segment.speaker ?? ""} />
      </span>
      <span class="what" dir="auto" lang={segment.language}>
        <LongText value={segment.text ?? ""} />
        {isInterim && <span class="hidden"> (not final)</span>}
      </span>
      <span class="tag">{segment.kind === SegmentKind.NOTE ? words(kind) : segment.language}</span>
    </li>
  );
}

function Speakers({ sessionId, size }: { readonly sessionId: string; readonly size: number }) {
  const [statistics, setStatistics] = useState<GetSessionStatisticsResponse | undefined>(undefined);
  // Read again after every so many segments, not after each.
  const step = Math.floor(size / 10);
  const fault = useTask(
    async (signal) => setStatistics(await call(TimelineService.method.getSessionStatistics, { sessionId }, signal)),
    [sessionId, step],
  );
  return (
    <Panel title="Speakers">
      <Fault text={fault} />
      <Table label="Speakers">
        <thead>
          <tr>
            <th scope="col">Speaker</th>
            <th scope="col" class="number">
              Segments
            </th>
            <th scope="col" class="number">
              Words
            </th>
            <th scope="col">Spoken</th>
          </tr>
        </thead>
        <tbody>
          {statistics?.speakers.slice(0, 50).map((speaker) => (
            <tr key={speaker.speaker}>
              <th scope="row">
                <Text value={speaker.speaker || "not known"} />
              </th>
              <td class="number">{count(speaker.segmentCount)}</td>
              <td class="number">{count(speaker.wordCount)}</td>
              <td>{duration(durationMs(speaker.spoken) ?? 0)}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Panel>
  );
}
