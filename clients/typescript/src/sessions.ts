// Sessions as they were read, and what a search and statistics return.
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { milliseconds } from "./documents.js";
import { fromStatus, type InterlockError } from "./errors.js";
import {
  type SegmentKind,
  SegmentSchema,
  type Session as SessionMessage,
  SessionState,
} from "./gen/interlock/v1/timeline_pb.js";
import {
  ExportFormat,
  type GetSessionStatisticsResponse,
  type SearchResult,
  SegmentSkip,
  type SegmentWriteResult,
  Untimed,
} from "./gen/interlock/v1/timeline_service_pb.js";
import { type StoredSegment, segmentOf } from "./segments.js";

export { ExportFormat, SegmentSkip, SessionState, Untimed };

/** A session as of one read, without its segments. */
export interface StoredSession {
  readonly sessionId: string;
  /** Empty: none. */
  readonly title: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: SessionState;
  /** Grows by one with each committed change of the session or its segments, from 1. */
  readonly version: bigint;
  /** The number of segments, deleted ones not counted. */
  readonly segmentCount: bigint;
  readonly createTime: Date;
  /** When it or one of its segments last changed. */
  readonly updateTime: Date;
  /** Undefined: it is OPEN. */
  readonly endTime: Date | undefined;
  /** Milliseconds from its end to its deletion. */
  readonly retentionMs: number;
  /** When it will be deleted. Undefined: it is OPEN. */
  readonly expireTime: Date | undefined;
}

/** The session in a message. */
export function sessionOf(message: SessionMessage): StoredSession {
  return {
    sessionId: message.sessionId,
    title: message.title,
    labels: message.labels,
    state: message.state,
    version: message.version,
    segmentCount: message.segmentCount,
    createTime: message.createTime ? timestampDate(message.createTime) : new Date(Number.NaN),
    updateTime: message.updateTime ? timestampDate(message.updateTime) : new Date(Number.NaN),
    endTime: message.endTime && timestampDate(message.endTime),
    retentionMs: message.retention ? milliseconds(message.retention) : 0,
    expireTime: message.expireTime && timestampDate(message.expireTime),
  };
}

/** The result of appending one segment. */
export interface AppendResult {
  readonly key: string;
  /** Whether the segment was stored. */
  readonly applied: boolean;
  /** Why it was not stored. UNSPECIFIED: it was, or a repeated call found it stored. */
  readonly skip: SegmentSkip;
  /** The version of the session at which the segment last changed. */
  readonly version: bigint;
}

/** The result of one segment of `Session.write`. */
export interface WriteResult {
  /** The result. Undefined: the segment was refused. */
  readonly result: AppendResult | undefined;
  /** What `append` would have failed with; paths in its `violations` are those within the segment. Undefined: none. */
  readonly error: InterlockError | undefined;
}

/** The result in a message. */
export function writeResultOf(message: SegmentWriteResult): WriteResult {
  const { status, result } = message;
  return { result, error: status === undefined || status.code === 0 ? undefined : fromStatus(status) };
}

/** A segment that matches a search. */
export interface Match {
  /** The segment, without words, metadata and inline data. */
  readonly segment: StoredSegment;
  readonly sessionId: string;
  /** How well it matches; higher is better. Comparable only within one search. */
  readonly rank: number;
  /** The part of the text around the matches, with `…` where the text goes on. */
  readonly snippet: string;
  /** The ranges of the matches, for `snippet.slice(start, end)`, in order. */
  readonly matches: readonly { readonly start: number; readonly end: number }[];
}

/** The match in a message. */
export function matchOf(message: SearchResult): Match {
  // The server counts characters, JavaScript counts the units of UTF-16.
  const offsets = [0];
  for (const character of message.snippet) {
    offsets.push((offsets.at(-1) ?? 0) + character.length);
  }
  const at = (place: number) => offsets[place] ?? message.snippet.length;
  return {
    segment: segmentOf(message.segment ?? create(SegmentSchema)),
    sessionId: message.sessionId,
    rank: message.rank,
    snippet: message.snippet,
    matches: message.matches.map(({ start, end }) => ({ start: at(start), end: at(end) })),
  };
}

/** Figures of a session. */
export interface SessionStatistics {
  /** Of TRANSCRIPT segments by speaker, at most 1,000. The speaker is empty where it is not known. */
  readonly speakers: readonly {
    readonly speaker: string;
    readonly segmentCount: bigint;
    readonly wordCount: bigint;
    /** The time spoken: the union of the ranges whose start and end are known, so overlaps count once. */
    readonly spokenMs: number;
    /** The number of segments whose start or end is not known; `spokenMs` lacks them. */
    readonly untimedCount: bigint;
  }[];
  /** Of segments with a text by language, at most 1,000. The language is empty where it is not known. */
  readonly languages: readonly {
    readonly language: string;
    readonly segmentCount: bigint;
    readonly wordCount: bigint;
  }[];
  /** Of all segments by kind. */
  readonly kinds: readonly {
    readonly kind: SegmentKind;
    readonly segmentCount: bigint;
    readonly interimCount: bigint;
  }[];
  /** The number of segments of speakers that are not listed. */
  readonly otherSpeakersSegmentCount: bigint;
  /** The number of segments of languages that are not listed. */
  readonly otherLanguagesSegmentCount: bigint;
  /** The version of the session at which it was read. */
  readonly sessionVersion: bigint;
}

/** The statistics in a message. */
export function statisticsOf(message: GetSessionStatisticsResponse): SessionStatistics {
  const { speakers, languages, kinds } = message;
  return {
    speakers: speakers.map(({ speaker, segmentCount, wordCount, spoken, untimedCount }) => {
      return { speaker, segmentCount, wordCount, spokenMs: spoken ? milliseconds(spoken) : 0, untimedCount };
    }),
    languages: languages.map(({ language, segmentCount, wordCount }) => ({ language, segmentCount, wordCount })),
    kinds: kinds.map(({ kind, segmentCount, interimCount }) => ({ kind, segmentCount, interimCount })),
    otherSpeakersSegmentCount: message.otherSpeakersSegmentCount,
    otherLanguagesSegmentCount: message.otherLanguagesSegmentCount,
    sessionVersion: message.sessionVersion,
  };
}
