// The handle of one session.

import type {
  DescMessage,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
} from "@bufbuild/protobuf";
import { create, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import type { CallOptions, ReadOptions } from "./connection.js";
import { optionalDuration, toInt64 } from "./documents.js";
import type { SegmentKind } from "./gen/interlock/v1/timeline_pb.js";
import {
  type AppendSegmentsRequest,
  AppendSegmentsRequestSchema,
  type ExportFormat,
  TimelineService,
  type Untimed,
} from "./gen/interlock/v1/timeline_service_pb.js";
import { callOptions, found, staleness } from "./job_calls.js";
import { pages } from "./pages.js";
import { type ImportResult, importAll } from "./segment_import.js";
import {
  type SegmentFields,
  type SegmentInput,
  SegmentStatus,
  type Sequences,
  type StoredSegment,
  segmentMessage,
  segmentOf,
} from "./segments.js";
import type { SearchOptions } from "./session_calls.js";
import { type SessionPosition, SessionWatch } from "./session_watch.js";
import {
  type AppendResult,
  type Match,
  type SessionStatistics,
  type StoredSession,
  sessionOf,
  statisticsOf,
  type WriteResult,
  writeResultOf,
} from "./sessions.js";
import type { Stream, StreamOptions } from "./stream.js";

const rpc = TimelineService.method;
/** Time for one part of an import, retries included. */
const IMPORT_MS = 60_000;

/** What a session calls of its client. */
export interface SessionClient {
  readonly sequences: Sequences;
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  openStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: () => MessageInitShape<I>,
    options?: StreamOptions,
  ): Stream<MessageShape<O>>;
  streamOnce<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<MessageShape<O>, void>;
  sendStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    messages: readonly MessageShape<I>[],
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  search(query: string, options?: SearchOptions): AsyncGenerator<Match, void>;
}

/** Options of a handle. */
export interface SessionOptions {
  /** Whether an append creates the session if it does not exist. False: that is NotFound. Undefined: true. */
  readonly allowMissing?: boolean | undefined;
}

/** Options of a change of a session. */
export interface SessionWriteOptions extends CallOptions {
  /** Required version of the session. Undefined: any version. */
  readonly expectedVersion?: bigint | number | undefined;
}

/** Conditions of a timeline; those that are set must all hold. */
export interface TimelineOptions extends ReadOptions {
  /** Only segments that may overlap the range from here on; an unknown end counts as open. Undefined: from the beginning. */
  readonly startMs?: number | undefined;
  /** Only segments that start before this time. Undefined: to the end. */
  readonly endMs?: number | undefined;
  /** Treatment of segments without a start, which come after all others. Undefined: included. */
  readonly untimed?: Untimed | undefined;
  /** Undefined: all. */
  readonly kinds?: readonly SegmentKind[] | undefined;
  /** `en` also matches `en-GB`. Undefined: all. */
  readonly languages?: readonly string[] | undefined;
  /** Undefined: all. */
  readonly speakers?: readonly string[] | undefined;
  /** Undefined: all. */
  readonly statuses?: readonly SegmentStatus[] | undefined;
}

/** A meeting, a call or a recording, and its segments. Holds no connection and no state, so it needs no closing. */
export class Session {
  readonly sessionId: string;
  readonly #client: SessionClient;
  readonly #allowMissing: boolean;

  /** @internal */
  constructor(client: SessionClient, sessionId: string, options: SessionOptions) {
    this.#client = client;
    this.sessionId = sessionId;
    this.#allowMissing = options.allowMissing ?? true;
  }

  /** Reads the session, without its segments. @throws NotFound */
  async get(options: ReadOptions = {}): Promise<StoredSession> {
    const request = { sessionId: this.sessionId, maxStaleness: staleness(options) };
    const response = await this.#client.call(rpc.getSession, request, callOptions(options));
    return sessionOf(found(response.session));
  }

  /**
   * Stores 1 to 500 segments as one set, all or none, such as the sound, the transcript and the translations of a
   * sentence. The results are in the order of the segments. A segment that changes nothing, because it is late or
   * repeated, is no error: its result says why.
   *
   * Segments without a status are FINAL. Those without a sequence get one: INTERIM states replace each other in the
   * order of the calls, and a FINAL replaces each of them.
   *
   * @throws InvalidArgument with the path of the field in `violations`, such as `segments[1].parent_key`.
   * @throws InvalidTransition if the session has ended.
   * @throws NotFound without `allowMissing`.
   */
  async append(
    segments: SegmentInput | readonly SegmentInput[],
    options: CallOptions = {},
  ): Promise<readonly AppendResult[]> {
    return (await this.#client.call(rpc.appendSegments, this.appending(segments), callOptions(options))).results;
  }

  /**
   * The request of `append`, for `Client.commit` and `Completion.also`: what a stage has heard is stored in the commit
   * that completes it.
   */
  appending(segments: SegmentInput | readonly SegmentInput[]): AppendSegmentsRequest {
    return create(AppendSegmentsRequestSchema, this.#appended(segments));
  }

  /** `append` of preliminary states, such as captions while somebody speaks. */
  async interim(
    segments: SegmentInput | readonly SegmentInput[],
    options: CallOptions = {},
  ): Promise<readonly AppendResult[]> {
    return await this.append(withStatus(segments, SegmentStatus.INTERIM), options);
  }

  /** `append` of complete states. Only `correct` changes them. */
  async final(
    segments: SegmentInput | readonly SegmentInput[],
    options: CallOptions = {},
  ): Promise<readonly AppendResult[]> {
    return await this.append(withStatus(segments, SegmentStatus.FINAL), options);
  }

  /** Stores 1 to 500 segments, each independently: one that is refused sinks no other. Otherwise as `append`. */
  async write(segments: readonly SegmentInput[], options: CallOptions = {}): Promise<readonly WriteResult[]> {
    const request = this.#appended(segments);
    return (await this.#client.call(rpc.writeSegments, request, callOptions(options))).results.map(writeResultOf);
  }

  /**
   * Stores any number of segments, each independently, such as those of an existing recording. They are sent in parts of
   * up to 8,000 segments; a part that fails is sent again, and memory holds one part. Otherwise as `append`. Safe to
   * repeat as a whole.
   *
   * @param segments an array, a generator, or an async one, such as `otherSession.timeline()`.
   * @param options `timeoutMs`: for one part, retries included. Undefined: 60,000.
   * @throws InvalidTransition if the session has ended.
   * @throws NotFound without `allowMissing`.
   * @throws InterlockError whose `imported` says how much is stored.
   */
  async import(
    segments: AsyncIterable<SegmentInput> | Iterable<SegmentInput>,
    options: CallOptions = {},
  ): Promise<ImportResult> {
    const target = { sessionId: this.sessionId, allowMissing: this.#allowMissing };
    const calling = { ...callOptions(options), timeoutMs: options.timeoutMs ?? IMPORT_MS };
    return await importAll(this.#numbered(segments), target, (part) =>
      this.#client.sendStream(rpc.importSegments, part, calling),
    );
  }

  async *#numbered(segments: AsyncIterable<SegmentInput> | Iterable<SegmentInput>) {
    for await (const segment of segments) {
      yield this.#client.sequences.numbered(segment);
    }
  }

  /** Reads one segment. @throws NotFound */
  async segment(key: string, options: ReadOptions = {}): Promise<StoredSegment> {
    const request = { sessionId: this.sessionId, key, maxStaleness: staleness(options) };
    const response = await this.#client.call(rpc.getSegment, request, callOptions(options));
    return segmentOf(found(response.segment));
  }

  /**
   * Changes fields of a segment, also of a FINAL one and in a session that has ended, as in
   * `session.correct(await session.segment("s1"), { speaker: "Ann", endMs: undefined })`.
   *
   * @param segment the segment as it was read; its version must still be the stored one.
   * @param fields the new values. A member that is undefined removes the field.
   * @throws VersionMismatch if it has changed since: read and correct again.
   * @throws InvalidTransition for FINAL to INTERIM.
   */
  async correct(
    segment: Pick<StoredSegment, "key" | "version">,
    fields: SegmentFields,
    options: CallOptions = {},
  ): Promise<StoredSegment> {
    const paths = Object.keys(fields).map(pathOf);
    const request = {
      sessionId: this.sessionId,
      segment: segmentMessage(segment.key, fields),
      updateMask: create(FieldMaskSchema, { paths }),
      expectedVersion: segment.version,
    };
    const response = await this.#client.call(rpc.updateSegment, request, callOptions(options));
    return segmentOf(found(response.segment));
  }

  /** Deletes one segment. Its key is not used again. @throws NotFound */
  async deleteSegment(key: string, options: SessionWriteOptions = {}): Promise<void> {
    const request = { sessionId: this.sessionId, key, expectedVersion: expected(options) };
    await this.#client.call(rpc.deleteSegment, request, callOptions(options));
  }

  /** Iterates over the segments in the order of their start, those without one last, page by page. @throws NotFound */
  async *timeline(options: TimelineOptions = {}): AsyncGenerator<StoredSegment, void> {
    const request = {
      sessionId: this.sessionId,
      start: optionalDuration(options.startMs, "startMs"),
      end: optionalDuration(options.endMs, "endMs"),
      untimed: options.untimed,
      kinds: options.kinds && [...options.kinds],
      languages: options.languages && [...options.languages],
      speakers: options.speakers && [...options.speakers],
      statuses: options.statuses && [...options.statuses],
      maxStaleness: staleness(options),
      pageSize: 1_000,
    };
    const call = callOptions(options);
    const read = (pageToken: string) => this.#client.call(rpc.queryTimeline, { ...request, pageToken }, call);
    for await (const page of pages(read)) {
      for (const segment of page.segments) {
        yield segmentOf(segment);
      }
    }
  }

  /** `Client.search` in this session. */
  search(query: string, options: SearchOptions = {}): AsyncGenerator<Match, void> {
    const only = `session_id = ${JSON.stringify(this.sessionId)}`;
    const filter = options.filter ? `${only} AND ${options.filter}` : only;
    return this.#client.search(query, { ...options, filter });
  }

  /** Reads figures: segments, words and time spoken by speaker, and segments by language and kind. @throws NotFound */
  async statistics(options: ReadOptions = {}): Promise<SessionStatistics> {
    const request = { sessionId: this.sessionId, maxStaleness: staleness(options) };
    return statisticsOf(await this.#client.call(rpc.getSessionStatistics, request, callOptions(options)));
  }

  /**
   * The FINAL texts of one language as a file in UTF-8, in parts that can end anywhere, as in
   * `pipeline(session.export(ExportFormat.WEBVTT), createWriteStream("a.vtt"))`. The call is repeated only while no
   * part came; an error after that means that the file is incomplete.
   *
   * @param options `language`: undefined: that of each transcript, without translations.
   * @throws NotFound
   */
  async *export(
    format: ExportFormat,
    options: Omit<ReadOptions, "timeoutMs"> & { readonly language?: string | undefined } = {},
  ): AsyncGenerator<Uint8Array, void> {
    const { language } = options;
    const request = { sessionId: this.sessionId, format, language, maxStaleness: staleness(options) };
    for await (const part of this.#client.streamOnce(rpc.exportTimeline, request, options.signal)) {
      yield part.data;
    }
  }

  /**
   * Follows the session to its end: first the session and all of its segments, or those that changed after `from`, then
   * each change. INTERIM states can be merged; each segment that becomes FINAL is delivered, and so is each deletion. A
   * session that does not exist is an update without `session`, and its creation is the next. A broken stream is resumed
   * from the last delivered version, on any server: no state of a segment is delivered twice. The last update has a
   * session that is ENDED.
   *
   * @param options `from`: the position of an earlier update. Undefined: all segments are delivered.
   */
  watch(options: StreamOptions & { readonly from?: SessionPosition | undefined } = {}): SessionWatch {
    const { sessionId } = this;
    return new SessionWatch(
      (position) => this.#client.openStream(rpc.watchSession, () => ({ sessionId, ...position() }), options),
      options.from ?? { version: 0n, createTime: undefined },
    );
  }

  /**
   * Changes the title, the labels or the retention; undefined members stay as they are.
   *
   * @param changes `labels`: in place of all it has.
   * @throws NotFound
   * @throws VersionMismatch
   */
  async update(
    changes: {
      readonly title?: string | undefined;
      readonly labels?: Readonly<Record<string, string>> | undefined;
      readonly retentionMs?: number | undefined;
    },
    options: SessionWriteOptions = {},
  ): Promise<StoredSession> {
    const { title, labels, retentionMs } = changes;
    const named = { title, labels, retention: retentionMs };
    const paths = Object.entries(named).flatMap(([name, value]) => (value === undefined ? [] : [name]));
    const request = {
      sessionId: this.sessionId,
      title,
      labels: labels && { ...labels },
      retention: optionalDuration(retentionMs, "retentionMs"),
      updateMask: create(FieldMaskSchema, { paths }),
      expectedVersion: expected(options),
    };
    const response = await this.#client.call(rpc.updateSession, request, callOptions(options));
    return sessionOf(found(response.session));
  }

  /**
   * Ends the session: appends are refused from now on, and its retention runs. A session that has ended is not changed.
   *
   * @throws NotFound
   */
  async end(options: SessionWriteOptions = {}): Promise<StoredSession> {
    const request = { sessionId: this.sessionId, expectedVersion: expected(options) };
    return sessionOf(found((await this.#client.call(rpc.endSession, request, callOptions(options))).session));
  }

  /** Deletes the session, OPEN or ENDED, with all of its segments. @throws NotFound */
  async delete(options: SessionWriteOptions = {}): Promise<void> {
    const request = { sessionId: this.sessionId, expectedVersion: expected(options) };
    await this.#client.call(rpc.deleteSession, request, callOptions(options));
  }

  #appended(segments: SegmentInput | readonly SegmentInput[]) {
    const numbered = listOf(segments).map((segment) => this.#client.sequences.numbered(segment));
    return { sessionId: this.sessionId, segments: numbered, allowMissing: this.#allowMissing };
  }
}

function listOf(segments: SegmentInput | readonly SegmentInput[]): readonly SegmentInput[] {
  return Array.isArray(segments) ? segments : [segments as SegmentInput];
}

function withStatus(segments: SegmentInput | readonly SegmentInput[], status: SegmentStatus): SegmentInput[] {
  return listOf(segments).map((segment) => ({ ...segment, status }));
}

/** The path of a field in an update mask. */
function pathOf(member: string): string {
  return member.replace(/Ms$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function expected(options: SessionWriteOptions): bigint | undefined {
  return toInt64(options.expectedVersion, "expectedVersion");
}
