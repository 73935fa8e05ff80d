// Imports of many segments, in parts that can be repeated.
import { create, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { fromStatus, InterlockError } from "./errors.js";
import { SegmentSchema } from "./gen/interlock/v1/timeline_pb.js";
import {
  type ImportSegmentsRequest,
  ImportSegmentsRequestSchema,
  type ImportSegmentsResponse,
  ImportSegmentsResponseSchema,
} from "./gen/interlock/v1/timeline_service_pb.js";

/** Most segments of a message. */
const SEGMENTS = 500;
/** Bytes after which a message, and a part of the import, is sent. A part is held in memory until it is stored. */
const MESSAGE_BYTES = 1024 * 1024;
const PART_BYTES = 8 * MESSAGE_BYTES;
const PART_MESSAGES = 16;
/** Most faults that a result has. */
const FAULTS = 1_000;

/** A segment that an import refused. */
export interface ImportFault {
  /** The number of the segment in the import, from 0. */
  readonly index: number;
  readonly key: string;
  /** What `append` would have failed with; paths in its `violations` are those within the segment. */
  readonly error: InterlockError;
}

/** What became of the segments of an import. */
export interface ImportResult {
  /** The number of segments that were stored. */
  readonly applied: number;
  /** The number of segments that were stored before, also by an earlier try of this import. */
  readonly unchanged: number;
  /** The number of segments that were refused. */
  readonly failed: number;
  /** The first 1,000 refusals, in the order of the import. */
  readonly faults: readonly ImportFault[];
}

type SegmentMessage = MessageShape<typeof SegmentSchema>;

/**
 * Sends all segments, part by part.
 *
 * @param send sends a part, and repeats it if it fails.
 * @throws InterlockError with `imported`.
 */
export async function importAll(
  segments: AsyncIterable<SegmentMessage> | Iterable<SegmentMessage>,
  target: { readonly sessionId: string; readonly allowMissing: boolean },
  send: (part: readonly ImportSegmentsRequest[]) => Promise<ImportSegmentsResponse>,
): Promise<ImportResult> {
  let sum: ImportResult = { applied: 0, unchanged: 0, failed: 0, faults: [] };
  for await (const part of parts(messages(segments, target))) {
    try {
      sum = plus(sum, await send(part));
    } catch (error) {
      if (error instanceof InterlockError) {
        error.stoppedImport(plus(sum, importedBefore(error)));
      }
      throw error;
    }
  }
  return sum;
}

/** The sum of a result and of what became of the next part. */
function plus(sum: ImportResult, response: ImportSegmentsResponse): ImportResult {
  const before = sum.applied + sum.unchanged + sum.failed;
  const faults = response.faults.flatMap(({ index, key, status }) =>
    status === undefined ? [] : [{ index: before + Number(index), key, error: fromStatus(status) }],
  );
  return {
    applied: sum.applied + Number(response.appliedCount),
    unchanged: sum.unchanged + Number(response.unchangedCount),
    failed: sum.failed + Number(response.failedCount),
    faults: [...sum.faults, ...faults].slice(0, FAULTS),
  };
}

/** What the server says of the messages before the one that failed. Zero: nothing. */
function importedBefore(error: InterlockError): ImportSegmentsResponse {
  const count = (name: string) => {
    const given = error.metadata[name] ?? "";
    return /^\d{1,15}$/.test(given) ? BigInt(given) : 0n;
  };
  return create(ImportSegmentsResponseSchema, {
    appliedCount: count("applied_count"),
    unchangedCount: count("unchanged_count"),
    failedCount: count("failed_count"),
  });
}

/** A message, and the bytes of its segments. */
interface Sized {
  readonly message: ImportSegmentsRequest;
  bytes: number;
}

async function* messages(
  segments: AsyncIterable<SegmentMessage> | Iterable<SegmentMessage>,
  target: { readonly sessionId: string; readonly allowMissing: boolean },
): AsyncGenerator<Sized, void> {
  const empty = (): Sized => ({ message: create(ImportSegmentsRequestSchema, target), bytes: 0 });
  let next = empty();
  for await (const segment of segments) {
    const bytes = toBinary(SegmentSchema, segment).length;
    const count = next.message.segments.length;
    if (count > 0 && (count >= SEGMENTS || next.bytes + bytes > MESSAGE_BYTES)) {
      yield next;
      next = empty();
    }
    next.message.segments.push(segment);
    next.bytes += bytes;
  }
  if (next.message.segments.length > 0) {
    yield next;
  }
}

async function* parts(all: AsyncIterable<Sized>): AsyncGenerator<readonly ImportSegmentsRequest[], void> {
  let part: ImportSegmentsRequest[] = [];
  let bytes = 0;
  for await (const next of all) {
    part.push(next.message);
    bytes += next.bytes;
    if (part.length >= PART_MESSAGES || bytes >= PART_BYTES) {
      yield part;
      part = [];
      bytes = 0;
    }
  }
  if (part.length > 0) {
    yield part;
  }
}
