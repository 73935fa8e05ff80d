// Segments of sessions: sound, transcripts, translations and notes.
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type JsonObject, milliseconds, optionalDuration, toDocument, toInt64 } from "./documents.js";
import {
  type SegmentContent,
  SegmentKind,
  type Segment as SegmentMessage,
  SegmentSchema,
  SegmentStatus,
} from "./gen/interlock/v1/timeline_pb.js";

export { SegmentKind, SegmentStatus };

/** A word of a segment's text. */
export interface Word {
  readonly text: string;
  /** Milliseconds from the start of the session. Undefined: not known. */
  readonly startMs?: number | undefined;
  /** Milliseconds from the start of the session. Undefined: not known. */
  readonly endMs?: number | undefined;
  /** 0 to 1. Undefined: not known. */
  readonly confidence?: number | undefined;
}

/** A file of a segment: its `uri`, or its bytes as `inlineData`. */
export interface Content {
  /** Where it is stored, at most 2,048 bytes. Undefined: `inlineData` has its bytes. */
  readonly uri?: string | undefined;
  /** Its bytes, at most 256 KiB. Undefined: it is at `uri`. */
  readonly inlineData?: Uint8Array | undefined;
  /** Its size. Undefined: not known, or that of `inlineData`. */
  readonly sizeBytes?: bigint | number | undefined;
  /** Its SHA-256 as 64 hexadecimal digits. Undefined: not known, or that of `inlineData`. */
  readonly sha256?: string | undefined;
  /** Its media type, such as `audio/ogg`. Undefined: not known. */
  readonly mediaType?: string | undefined;
}

/** The fields of a segment that can be corrected. Undefined: not known, or none. */
export interface SegmentFields {
  /** Undefined: FINAL. */
  readonly status?: SegmentStatus | undefined;
  /** Key of the segment that this one was made from, which is stored or in the same call. */
  readonly parentKey?: string | undefined;
  /** Milliseconds from the start of the session, 0 to 7 days. Not known differs from 0. */
  readonly startMs?: number | undefined;
  /** Milliseconds from the start of the session, not before `startMs`. */
  readonly endMs?: number | undefined;
  /** At most 256 bytes. */
  readonly speaker?: string | undefined;
  /** BCP 47 tag of the text, such as `en` or `pt-BR`. */
  readonly language?: string | undefined;
  /** At most 64 KiB. */
  readonly text?: string | undefined;
  /** The words of the text with their times, at most 2,000. */
  readonly words?: readonly Word[] | undefined;
  /** How sure the recogniser is, 0 to 1. */
  readonly confidence?: number | undefined;
  /** The recording or another file. */
  readonly content?: Content | undefined;
  /** The caller's own object, at most 64 KiB as JSON. */
  readonly metadata?: object | undefined;
}

/** A segment to append. */
export interface SegmentInput extends SegmentFields {
  /** Unique in the session: a segment that is sent twice is stored once. Matches `[A-Za-z0-9._:/-]{1,128}`. */
  readonly key: string;
  readonly kind: SegmentKind;
  /**
   * Number of this state among the states of the key: it replaces an INTERIM state with a lower one. Undefined or 0:
   * INTERIM states replace each other in the order of the calls, and a FINAL replaces each of them.
   */
  readonly sequence?: bigint | number | undefined;
}

/** A segment as it was read. */
export interface StoredSegment {
  readonly key: string;
  readonly kind: SegmentKind;
  readonly status: SegmentStatus;
  readonly sequence: bigint;
  /** Undefined: none. */
  readonly parentKey: string | undefined;
  /** Milliseconds from the start of the session. Undefined: not known. */
  readonly startMs: number | undefined;
  /** Milliseconds from the start of the session. Undefined: not known. */
  readonly endMs: number | undefined;
  /** Milliseconds from start to end. Undefined: one of them is not known. */
  readonly durationMs: number | undefined;
  /** Empty: not known. */
  readonly speaker: string;
  /** Empty: not known. */
  readonly language: string;
  readonly text: string;
  readonly words: readonly Word[];
  /** Undefined: not known. */
  readonly confidence: number | undefined;
  /** Undefined: none. */
  readonly content: Content | undefined;
  /** Undefined: none. */
  readonly metadata: JsonObject | undefined;
  /** The version of the session at which the segment last changed. */
  readonly version: bigint;
  /** The number of its arrival in the session, from 1. */
  readonly arrival: bigint;
  readonly createTime: Date;
  readonly updateTime: Date;
}

/** The segment in a message. */
export function segmentOf(message: SegmentMessage): StoredSegment {
  return {
    key: message.key,
    kind: message.kind,
    status: message.status,
    sequence: message.sequence,
    parentKey: message.parentKey,
    startMs: message.start && milliseconds(message.start),
    endMs: message.end && milliseconds(message.end),
    durationMs: message.duration && milliseconds(message.duration),
    speaker: message.speaker,
    language: message.language,
    text: message.text,
    words: message.words.map((word) => ({
      text: word.text,
      startMs: word.start && milliseconds(word.start),
      endMs: word.end && milliseconds(word.end),
      confidence: word.confidence,
    })),
    confidence: message.confidence,
    content: message.content && contentOf(message.content),
    metadata: message.metadata,
    version: message.version,
    arrival: message.arrival,
    createTime: message.createTime ? timestampDate(message.createTime) : new Date(Number.NaN),
    updateTime: message.updateTime ? timestampDate(message.updateTime) : new Date(Number.NaN),
  };
}

function contentOf(message: SegmentContent): Content {
  return {
    uri: message.source.case === "uri" ? message.source.value : undefined,
    inlineData: message.source.case === "inlineData" ? message.source.value : undefined,
    sizeBytes: message.sizeBytes,
    sha256: message.sha256 === "" ? undefined : message.sha256,
    mediaType: message.mediaType === "" ? undefined : message.mediaType,
  };
}

/** The sequence of a FINAL state without one: no state comes after it, and it replaces each INTERIM one. */
const FINAL_SEQUENCE = 2n ** 63n - 1n;

/**
 * Numbers the states of INTERIM segments. Numbers come from the clock, in microseconds, so that a process that starts
 * again continues above those it has used before; they grow also if the clock does not.
 */
export class Sequences {
  #last = 0n;

  /** The number of the next state. */
  next(): bigint {
    const now = BigInt(Math.trunc((performance.timeOrigin + performance.now()) * 1_000));
    this.#last = now > this.#last ? now : this.#last + 1n;
    return this.#last;
  }

  /** The segment as a message with a sequence. One that is given stays. */
  numbered(segment: SegmentInput): SegmentMessage {
    const message = segmentMessage(segment.key, segment);
    message.kind = segment.kind;
    const given = toInt64(segment.sequence, `segment ${segment.key}: sequence`) ?? 0n;
    const counted = () => (message.status === SegmentStatus.INTERIM ? this.next() : FINAL_SEQUENCE);
    message.sequence = given === 0n ? counted() : given;
    return message;
  }
}

/**
 * A message with fields of a segment.
 *
 * @throws TypeError or RangeError if a value can never be accepted; the message names segment and field.
 */
export function segmentMessage(key: string, fields: SegmentFields): SegmentMessage {
  const where = (name: string) => `segment ${key}: ${name}`;
  return create(SegmentSchema, {
    key,
    status: fields.status,
    parentKey: fields.parentKey,
    start: optionalDuration(fields.startMs, where("startMs")),
    end: optionalDuration(fields.endMs, where("endMs")),
    speaker: fields.speaker,
    language: fields.language,
    text: fields.text,
    words: (fields.words ?? []).map((word, index) => ({
      text: word.text,
      start: optionalDuration(word.startMs, where(`words[${index}].startMs`)),
      end: optionalDuration(word.endMs, where(`words[${index}].endMs`)),
      confidence: word.confidence,
    })),
    confidence: fields.confidence,
    content: fields.content && contentMessage(fields.content, where("content")),
    metadata: fields.metadata && toDocument(fields.metadata),
  });
}

function contentMessage(content: Content, where: string) {
  const { uri, inlineData } = content;
  if ((uri === undefined) === (inlineData === undefined)) {
    throw new TypeError(`${where} has either a uri or inlineData`);
  }
  const source =
    uri !== undefined
      ? ({ case: "uri", value: uri } as const)
      : ({ case: "inlineData", value: inlineData as Uint8Array } as const);
  const sizeBytes = toInt64(content.sizeBytes, `${where}.sizeBytes`);
  return { source, sizeBytes, sha256: content.sha256, mediaType: content.mediaType };
}
