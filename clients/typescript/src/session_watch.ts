// The watch of a session.
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Session as SessionMessage, SessionState } from "./gen/interlock/v1/timeline_pb.js";
import type { SegmentChanges, WatchSessionResponse } from "./gen/interlock/v1/timeline_service_pb.js";
import { isSameTime } from "./jobs_watch.js";
import { type StoredSegment, segmentOf } from "./segments.js";
import { type StoredSession, sessionOf } from "./sessions.js";
import { ChainBroken, type Stream, Watch } from "./stream.js";

/** How far the changes of a session have been delivered. */
export interface SessionPosition {
  /** The version of which all changes have been delivered. */
  readonly version: bigint;
  /** The create time of the session, which tells it from another one of the same id. Undefined: not known. */
  readonly createTime: Timestamp | undefined;
}

/** What changed in a session. */
export interface SessionUpdate {
  /** The session as it was last sent; its version and its count of segments are as of then. Undefined: it does not exist. */
  readonly session: StoredSession | undefined;
  /** Segments that changed, in their newest state, in the order of their changes. */
  readonly segments: readonly StoredSegment[];
  /** Keys of segments that were deleted. After a broken stream they can be delivered again. */
  readonly deleted: readonly string[];
  /** Whether all segments of earlier updates are to be discarded first: the session was deleted. */
  readonly reset: boolean;
  /** Where another watch goes on from here: its option `from`. */
  readonly position: SessionPosition;
}

/** The iterator that `Session.watch` returns. Ends with the session. */
export class SessionWatch extends Watch<SessionUpdate> {
  readonly #held: HeldSession;
  readonly #stream: Stream<WatchSessionResponse>;
  #isOver = false;

  constructor(
    open: (
      request: () => { fromVersion: bigint; fromCreateTime: Timestamp | undefined },
    ) => Stream<WatchSessionResponse>,
    from: SessionPosition,
  ) {
    super();
    const held = new HeldSession(from);
    this.#held = held;
    this.#stream = open(() => held.request());
  }

  override close(): void {
    this.#stream.close();
  }

  protected override async read(): Promise<SessionUpdate | undefined> {
    while (!this.#isOver) {
      const response = await this.#stream.readOn();
      if (response === undefined) {
        return undefined;
      }
      try {
        const update = this.#held.take(response);
        if (this.#held.hasEnded) {
          this.#isOver = true;
          this.#stream.close();
        }
        // States that a new stream repeats do not show yet that the stream works.
        if (update !== undefined || response.update.case === "keepalive") {
          this.#stream.confirm();
        }
        if (update !== undefined) {
          return update;
        }
      } catch (error) {
        if (!(error instanceof ChainBroken)) {
          this.#stream.close();
          throw error;
        }
        this.#stream.broke(error.message);
      }
    }
    return undefined;
  }
}

/** The position of a watch in the changes of a session. */
class HeldSession {
  /** The session as it was last sent. Undefined: it does not exist, or is not known yet. */
  #session: SessionMessage | undefined;
  #version: bigint;
  #createTime: Timestamp | undefined;
  /** Versions, by key, of segments delivered of a version that is not complete. */
  #partial = new Map<string, bigint>();
  /** The highest version that this stream has named. */
  #named = 0n;
  /** Whether it was delivered that the session does not exist. */
  #isAbsent = false;
  #mustReset = false;

  constructor(from: SessionPosition) {
    this.#version = from.version;
    this.#createTime = from.createTime;
  }

  get hasEnded(): boolean {
    return this.#session?.state === SessionState.ENDED;
  }

  /** A request for what comes after the position. */
  request(): { fromVersion: bigint; fromCreateTime: Timestamp | undefined } {
    this.#named = this.#version;
    // The version alone cannot distinguish a session that was created again: versions start at 1.
    return { fromVersion: this.#version, fromCreateTime: this.#version > 0n ? this.#createTime : undefined };
  }

  /** The update that a message makes. Undefined: none. @throws ChainBroken if a version is missing. */
  take({ update }: WatchSessionResponse): SessionUpdate | undefined {
    switch (update.case) {
      case "session":
        return this.#put(update.value);
      case "changes":
        return this.#change(update.value);
      case "removal":
        return this.#remove();
      case "reset":
        this.#discard();
        return undefined;
      case "keepalive":
        this.#note(update.value.version);
        return undefined;
      default:
        return undefined;
    }
  }

  #note(version: bigint): void {
    this.#named = version > this.#named ? version : this.#named;
  }

  /** Forgets the session and its segments. */
  #discard(): void {
    this.#mustReset ||= this.#session !== undefined || this.#version > 0n;
    this.#session = undefined;
    this.#createTime = undefined;
    this.#version = 0n;
    this.#named = 0n;
    this.#partial.clear();
  }

  #remove(): SessionUpdate | undefined {
    if (this.#isAbsent) {
      // Every stream sends it again.
      return undefined;
    }
    this.#discard();
    this.#isAbsent = true;
    return this.#update([], []);
  }

  #put(session: SessionMessage): SessionUpdate | undefined {
    if (this.#createTime !== undefined && !isSameTime(this.#createTime, session.createTime)) {
      this.#discard();
    }
    const before = this.#session;
    this.#session = session;
    this.#createTime = session.createTime;
    this.#isAbsent = false;
    this.#note(session.version);
    // Every stream begins with it.
    if (before !== undefined && isSame(before, session)) {
      return undefined;
    }
    if (this.hasEnded && session.version > this.#version) {
      this.#version = session.version;
    }
    return this.#update([], []);
  }

  #change(change: SegmentChanges): SessionUpdate | undefined {
    if (change.previousVersion > this.#named) {
      throw new ChainBroken(`version ${change.previousVersion} was never sent`);
    }
    const segments = change.segments.filter(
      ({ key, version }) => version > this.#version && version > (this.#partial.get(key) ?? 0n),
    );
    this.#note(change.version);
    if (change.version > this.#version) {
      this.#version = change.version;
    }
    for (const [key, version] of this.#partial) {
      if (version <= this.#version) {
        this.#partial.delete(key);
      }
    }
    for (const { key, version } of segments) {
      if (version > this.#version) {
        this.#partial.set(key, version);
      }
    }
    if (segments.length === 0 && change.deletedKeys.length === 0) {
      return undefined;
    }
    return this.#update(segments.map(segmentOf), change.deletedKeys);
  }

  #update(segments: readonly StoredSegment[], deleted: readonly string[]): SessionUpdate {
    const reset = this.#mustReset;
    this.#mustReset = false;
    const position = { version: this.#version, createTime: this.#createTime };
    return { session: this.#session && sessionOf(this.#session), segments, deleted, reset, position };
  }
}

/** Whether all that callers set is equal. */
function isSame(one: SessionMessage, other: SessionMessage): boolean {
  const labels = Object.entries(one.labels);
  return (
    one.title === other.title &&
    one.state === other.state &&
    one.retention?.seconds === other.retention?.seconds &&
    one.retention?.nanos === other.retention?.nanos &&
    labels.length === Object.keys(other.labels).length &&
    labels.every(([key, value]) => other.labels[key] === value)
  );
}
