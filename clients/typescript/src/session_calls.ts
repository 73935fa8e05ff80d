// Calls for sessions, and searches over them.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { CallOptions, ReadOptions } from "./connection.js";
import { optionalDuration } from "./documents.js";
import { AlreadyExists } from "./errors.js";
import type { SegmentKind } from "./gen/interlock/v1/timeline_pb.js";
import { TimelineService } from "./gen/interlock/v1/timeline_service_pb.js";
import { callOptions, found, staleness } from "./job_calls.js";
import { pages } from "./pages.js";
import { RecordCalls } from "./record_calls.js";
import { Sequences } from "./segments.js";
import { Session, type SessionClient, type SessionOptions } from "./session.js";
import { type Match, matchOf, type StoredSession, sessionOf } from "./sessions.js";

const rpc = TimelineService.method;

/** A new session. */
export interface NewSession {
  /** Matches `[A-Za-z0-9._:-]{1,128}`. Undefined: the server chooses one. */
  readonly sessionId?: string | undefined;
  /** The title, at most 1 KiB. Undefined: none. */
  readonly title?: string | undefined;
  /** Labels to find it by, at most 64. Undefined: none. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Milliseconds from its end to its deletion. Undefined: 365 days. */
  readonly retentionMs?: number | undefined;
}

/** Conditions of a search; those that are set must all hold. */
export interface SearchOptions extends ReadOptions {
  /** A filter of sessions, as in `listSessions`. Undefined: all sessions. */
  readonly filter?: string | undefined;
  /** Undefined: all. */
  readonly kinds?: readonly SegmentKind[] | undefined;
  /** Undefined: all. */
  readonly speakers?: readonly string[] | undefined;
  /** `en` also matches `en-GB`. Undefined: all. */
  readonly languages?: readonly string[] | undefined;
  /** Only segments that were stored at this time or later. Undefined: all. */
  readonly startTime?: Date | undefined;
  /** Only segments that were stored before this time. Undefined: all. */
  readonly endTime?: Date | undefined;
}

/** Methods of `Client` for sessions. */
export class SessionCalls extends RecordCalls {
  readonly #sequences = new Sequences();
  readonly #sessions: SessionClient = {
    sequences: this.#sequences,
    call: (method, request, options) => this.call(method, request, options),
    openStream: (method, request, options) => this.openStream(method, request, options),
    streamOnce: (method, request, signal) => this.streamOnce(method, request, signal),
    sendStream: (method, messages, options) => this.sendStream(method, messages, options),
    search: (query, options) => this.search(query, options),
  };

  /**
   * The handle of a session, without a call: its first append creates the session if it does not exist, unless
   * `allowMissing` is false.
   */
  session(sessionId: string, options: SessionOptions = {}): Session {
    return new Session(this.#sessions, sessionId, options);
  }

  /**
   * Creates a session, or takes the one that exists with this id, in any state and with the title, labels and retention
   * that it has. An append to its handle does not create it again after a deletion.
   *
   * @throws AlreadyExists while a session of this id is being deleted.
   */
  async openSession(session: NewSession = {}, options: CallOptions = {}): Promise<Session> {
    const { sessionId } = await this.createSession(session, options).catch(async (error: unknown) => {
      if (error instanceof AlreadyExists && session.sessionId !== undefined) {
        const existing = await this.session(session.sessionId)
          .get(options)
          .catch(() => undefined);
        if (existing !== undefined) {
          return existing;
        }
      }
      throw error;
    });
    return this.session(sessionId, { allowMissing: false });
  }

  /** Creates a session. @throws AlreadyExists if its id is taken. */
  async createSession(session: NewSession = {}, options: CallOptions = {}): Promise<StoredSession> {
    const request = {
      sessionId: session.sessionId,
      title: session.title,
      labels: session.labels && { ...session.labels },
      retention: optionalDuration(session.retentionMs, "retentionMs"),
    };
    return sessionOf(found((await this.call(rpc.createSession, request, callOptions(options))).session));
  }

  /**
   * Iterates over the sessions that match a filter, without segments, page by page.
   *
   * @param filter as in `ListSessionsRequest`, such as `state = ENDED AND labels.team = "acme"`. Empty: all.
   * @param options `orderBy`: `create_time` or `end_time`, with ` desc` for the largest first. Undefined:
   *   `create_time desc`.
   */
  async *listSessions(
    filter = "",
    options: ReadOptions & { readonly orderBy?: string | undefined } = {},
  ): AsyncGenerator<StoredSession, void> {
    const maxStaleness = staleness(options);
    const request = { filter, orderBy: options.orderBy, maxStaleness, pageSize: 1_000 };
    const read = (pageToken: string) => this.call(rpc.listSessions, { ...request, pageToken }, callOptions(options));
    for await (const page of pages(read)) {
      for (const session of page.sessions) {
        yield sessionOf(session);
      }
    }
  }

  /**
   * Iterates over the FINAL segments that have all words of the query, best first, page by page. `"quoted words"` must
   * follow each other, and `-word` must not be there.
   *
   * @throws InvalidArgument if the query or the filter is malformed.
   */
  async *search(query: string, options: SearchOptions = {}): AsyncGenerator<Match, void> {
    const request = {
      query,
      filter: options.filter,
      kinds: options.kinds && [...options.kinds],
      speakers: options.speakers && [...options.speakers],
      languages: options.languages && [...options.languages],
      startTime: options.startTime && timestampFromDate(options.startTime),
      endTime: options.endTime && timestampFromDate(options.endTime),
      maxStaleness: staleness(options),
      pageSize: 100,
    };
    const read = (pageToken: string) => this.call(rpc.searchSegments, { ...request, pageToken }, callOptions(options));
    for await (const page of pages(read)) {
      for (const result of page.results) {
        yield matchOf(result);
      }
    }
  }
}
