// A server for tests of the client alone: real gRPC over HTTP/2, answers as the test says.

import { once } from "node:events";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import { type Code, ConnectError, type ConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { toDuration } from "../src/documents.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import {
  type HeartbeatRequest,
  JobService,
  type Lease,
  LeaseDirective,
  LeaseSchema,
  TimelineService,
  WorkerService,
} from "../src/v1.js";
import { DEADLINE_MS, Deferred, within } from "./support.js";

/** An error in the form of the real server; without a reason as from a proxy. */
export function refusal(
  code: Code,
  reason: string,
  options: { metadata?: Record<string, string>; pushbackMs?: number; field?: string } = {},
): ConnectError {
  const metadata = new Headers();
  if (options.pushbackMs !== undefined) {
    metadata.set("grpc-retry-pushback-ms", String(options.pushbackMs));
  }
  const error = new ConnectError(`refused: ${reason}`, code, metadata);
  if (reason !== "") {
    const info = { reason, domain: "interlock", metadata: { outcome: "NOT_APPLIED", ...options.metadata } };
    error.details.push({ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, info) });
  }
  if (options.pushbackMs !== undefined && options.pushbackMs >= 0) {
    const retryDelay = toDuration(options.pushbackMs, "pushbackMs");
    error.details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) });
  }
  if (options.field !== undefined) {
    const fieldViolations = [{ field: options.field, description: "is wrong" }];
    error.details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  }
  return error;
}

/** A call that the server has got. */
export interface Call {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asks for.
  readonly request: any;
  readonly headers: Headers;
  /** When it came, on the monotonic clock. */
  readonly at: number;
}

/** In a script: the connection is cut. */
export const CUT = Symbol("cut");
/** In a script: nothing comes any more. */
export const HANG = Symbol("hang");

/** Hands out the leases that are put into it, and remembers all calls. */
export class FakeServer {
  readonly calls: Call[] = [];
  /** The next calls of a method, by its name, fail with these. */
  readonly refusals = new Map<string, (ConnectError | typeof CUT)[]>();
  /** What the next watches of a job, watches of a session, and exports send. After its last message a stream ends with OK. */
  readonly streams: (object | ConnectError | typeof CUT | typeof HANG)[][] = [];
  /** What a call for work without a wait is granted. */
  granted: Lease[] = [];
  directive: LeaseDirective = LeaseDirective.CONTINUE;
  readonly #work: Lease[] = [];
  readonly #changed: Deferred[] = [];
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #http: Http2Server;

  constructor() {
    const routes = (router: ConnectRouter) => {
      router.service(WorkerService, this.#worker());
      router.service(JobService, this.#jobs());
      router.service(TimelineService, this.#timelines());
    };
    this.#http = createServer(connectNodeAdapter({ routes }));
    this.#http.on("session", (session) => {
      this.#sessions.add(session);
      session.on("close", () => this.#sessions.delete(session));
    });
  }

  async start(): Promise<void> {
    this.#http.listen(0, "127.0.0.1");
    await once(this.#http, "listening");
  }

  get address(): string {
    return `127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  /** Cuts all connections. */
  cut(): void {
    for (const session of this.#sessions) {
      session.destroy();
    }
  }

  stop(): void {
    this.cut();
    this.#http.close();
  }

  /** Something to lease. */
  offer(
    token: string,
    options: { intervalMs?: number; ttlMs?: number; isolated?: boolean; input?: object } = {},
  ): void {
    this.#work.push(lease(token, options));
    this.#notify();
  }

  /** The requests that a method has got. */
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asks for.
  of(name: string): any[] {
    return this.calls.filter((call) => call.name === name).map((call) => call.request);
  }

  /** Waits until something holds, which only calls can change. */
  async until(holds: () => boolean): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    while (!holds()) {
      const changed = new Deferred();
      this.#changed.push(changed);
      const calls = new Set(this.calls.map((call) => call.name));
      await within(changed.promise, `waiting for a call; there were ${[...calls]}`, deadline - performance.now());
    }
  }

  #notify(): void {
    for (const changed of this.#changed.splice(0)) {
      changed.resolve();
    }
  }

  #note(name: string, request: object, headers: Headers): void {
    this.calls.push({ name, request, headers, at: performance.now() });
    this.#notify();
    const refused = this.refusals.get(name)?.shift();
    if (refused === CUT) {
      this.cut();
    } else if (refused !== undefined) {
      throw refused;
    }
  }

  #worker(): Partial<ServiceImpl<typeof WorkerService>> {
    const done = (name: string) => (request: object, context: { requestHeader: Headers }) => {
      this.#note(name, request, context.requestHeader);
      return { applied: true };
    };
    return {
      leaseStages: async (request, context) => {
        this.#note("leaseStages", request, context.requestHeader);
        if (request.wait === undefined) {
          return { leases: this.granted, replayed: true };
        }
        while (this.#work.length === 0 && !context.signal.aborted) {
          const changed = new Deferred();
          this.#changed.push(changed);
          context.signal.addEventListener("abort", () => changed.resolve(), { once: true });
          await changed.promise;
        }
        return { leases: this.#work.splice(0, request.maxStages) };
      },
      heartbeat: (request: HeartbeatRequest, context) => {
        this.#note("heartbeat", request, context.requestHeader);
        const status = { directive: this.directive, ttl: toDuration(10_000, "ttl") };
        return { statuses: request.renewals.map(() => status) };
      },
      completeStage: done("completeStage"),
      failStage: done("failStage"),
      releaseStage: done("releaseStage"),
    };
  }

  #jobs(): Partial<ServiceImpl<typeof JobService>> {
    const { calls } = this;
    const play = this.#play.bind(this);
    const note = this.#note.bind(this);
    return {
      submitJob: (request, context) => {
        note("submitJob", request, context.requestHeader);
        return { job: { jobId: "new", kind: request.kind } };
      },
      getJob: (request, context) => {
        note("getJob", request, context.requestHeader);
        return { job: { jobId: request.jobId } };
      },
      async *watchJob(request, context) {
        calls.push({ name: "watchJob", request, headers: context.requestHeader, at: performance.now() });
        yield* play(context.signal);
      },
    };
  }

  #timelines(): Partial<ServiceImpl<typeof TimelineService>> {
    const { calls } = this;
    const notify = this.#notify.bind(this);
    const note = this.#note.bind(this);
    const play = this.#play.bind(this);
    return {
      async *watchSession(request, context) {
        calls.push({ name: "watchSession", request, headers: context.requestHeader, at: performance.now() });
        yield* play(context.signal);
      },
      async *exportTimeline(request, context) {
        calls.push({ name: "exportTimeline", request, headers: context.requestHeader, at: performance.now() });
        try {
          yield* play(context.signal);
        } finally {
          calls.push({ name: "exportEnded", request, headers: context.requestHeader, at: performance.now() });
          notify();
        }
      },
      // A part is noted as the key of its first segment, and its numbers of messages and segments.
      importSegments: async (messages, context) => {
        const found = [];
        for await (const message of messages) {
          found.push(message);
        }
        const count = found.reduce((sum, { segments }) => sum + segments.length, 0);
        const part = [found[0]?.segments[0]?.key, found.length, count];
        note("importSegments", part, context.requestHeader);
        return { appliedCount: BigInt(count) };
      },
    };
  }

  async *#play(signal: AbortSignal): AsyncGenerator<never> {
    this.#notify();
    for (const item of this.streams.shift() ?? [HANG]) {
      if (item === CUT) {
        this.cut();
      } else if (item === HANG) {
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      } else if (item instanceof Error) {
        throw item;
      } else {
        yield item as never;
      }
    }
  }
}

/** A lease of a stage `main` of the job `job`. */
export function lease(
  token: string,
  options: { intervalMs?: number; ttlMs?: number; isolated?: boolean; input?: object } = {},
): Lease {
  return create(LeaseSchema, {
    leaseToken: token,
    fencingToken: 7n,
    jobId: "job",
    stageName: "main",
    attempt: 1,
    input: options.input as Lease["input"],
    isolated: options.isolated,
    ttl: toDuration(options.ttlMs ?? 10_000, "ttlMs"),
    heartbeatInterval: toDuration(options.intervalMs ?? 50, "intervalMs"),
  });
}

/** A server of this kind for the time of a body. */
export async function withFake<T>(body: (server: FakeServer) => Promise<T>): Promise<T> {
  const server = new FakeServer();
  await server.start();
  try {
    return await body(server);
  } finally {
    server.stop();
  }
}
