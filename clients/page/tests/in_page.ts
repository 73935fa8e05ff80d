// Runs in a browser, bundled: calls by connect-web, fetch and EventSource, for the tests of web.test.ts.
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/client/gen/google/rpc/error_details_pb.js";
import { JobState } from "../src/client/gen/interlock/v1/job_pb.js";
import { JobService } from "../src/client/gen/interlock/v1/job_service_pb.js";

/** The transports of connect-web. */
export type Protocol = "Connect, JSON" | "Connect, proto" | "Connect, GET" | "gRPC-Web";
/** How a job is followed: by a stream of a transport, or by an EventSource. */
export type Way = Protocol | "events";

/** An error as a page sees it. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly reason: string | undefined;
  readonly fields: string[];
  /** Seconds after which to repeat the call. Undefined: the error does not say. */
  readonly retrySeconds: number | undefined;
  /** Metadata that says the same. */
  readonly pushback: string | null;
}

/** What was received about a job. */
export interface Followed {
  /** The versions of snapshots and changes, each with the version before. */
  readonly versions: [before: number, version: number][];
  /** How often a stream was opened. */
  opened: number;
  /** True after the last change of the job. */
  hasEnded: boolean;
}

function transport(base: string, protocol: Protocol): Transport {
  switch (protocol) {
    case "Connect, JSON":
      return createConnectTransport({ baseUrl: base });
    case "Connect, proto":
      return createConnectTransport({ baseUrl: base, useBinaryFormat: true });
    case "Connect, GET":
      return createConnectTransport({ baseUrl: base, useHttpGet: true });
    case "gRPC-Web":
      return createGrpcWebTransport({ baseUrl: base });
  }
}

async function refusal(call: Promise<unknown>): Promise<Refusal> {
  try {
    await call;
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    const violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
    const seconds = error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds;
    return {
      code: Code[error.code] ?? "",
      message: error.rawMessage,
      reason: error.findDetails(ErrorInfoSchema)[0]?.reason,
      fields: violations.map((violation) => violation.field),
      retrySeconds: seconds === undefined ? undefined : Number(seconds),
      pushback: error.metadata.get("grpc-retry-pushback-ms"),
    };
  }
  throw new Error("the call was not refused");
}

/** Submits a job, reads it, watches it and cancels it meanwhile. */
async function run(base: string, protocol: Protocol, jobId: string) {
  const jobs = createClient(JobService, transport(base, protocol));
  await jobs.submitJob({ jobId, kind: "film", payload: { title: "Ü <&>" } });
  const read = await jobs.getJob({ jobId }, { timeoutMs: 20_000 });
  const kinds: (string | undefined)[] = [];
  for await (const { update } of jobs.watchJob({ jobId })) {
    kinds.push(update.case);
    if (kinds.length === 1) {
      await jobs.cancelJob({ jobId });
    }
  }
  const { job } = await jobs.getJob({ jobId });
  return { title: read.job?.payload?.title, kinds, state: JobState[job?.state ?? 0] };
}

/** Calls and streams that fail: an absent job, a wrong field, an absent job to watch, a deadline, a large message. */
async function fail(base: string, protocol: Protocol, jobId: string) {
  const jobs = createClient(JobService, transport(base, protocol));
  const first = (id: string) => jobs.watchJob({ jobId: id })[Symbol.asyncIterator]().next();
  await jobs.submitJob({ jobId, kind: "film" });
  const late = async () => {
    for await (const _ of jobs.watchJob({ jobId }, { timeoutMs: 400 })) {
      // Until its deadline.
    }
  };
  return {
    missing: await refusal(jobs.getJob({ jobId: "none" })),
    invalid: await refusal(jobs.submitJob({ kind: "film", stages: [{ name: "a", dependsOn: ["b"] }] })),
    stream: await refusal(first("none")),
    late: await refusal(late()),
    large: await refusal(jobs.submitJob({ kind: "film", payload: { text: "x".repeat(4 << 20) } })),
  };
}

/** Reads until the rate of reads is used up. */
async function flood(base: string, protocol: Protocol): Promise<Refusal> {
  const jobs = createClient(JobService, transport(base, protocol));
  for (;;) {
    const refused = await refusal(jobs.getJob({ jobId: "none" }));
    if (refused.code !== "NotFound") {
      return refused;
    }
  }
}

const followed = new Map<string, Followed>();

/** Follows a job until it has ended, and opens the stream again when it breaks. */
function follow(base: string, way: Way, jobId: string): void {
  const state: Followed = { versions: [], opened: 0, hasEnded: false };
  followed.set(jobId, state);
  if (way === "events") {
    followEvents(base, jobId, state);
  } else {
    void followStream(transport(base, way), jobId, state);
  }
}

async function followStream(by: Transport, jobId: string, state: Followed): Promise<void> {
  const jobs = createClient(JobService, by);
  while (!state.hasEnded) {
    const from = state.versions.at(-1)?.[1] ?? 0;
    try {
      state.opened += 1;
      for await (const { update } of jobs.watchJob({ jobId, fromVersion: BigInt(from) })) {
        if (update.case === "snapshot") {
          state.versions.push([0, Number(update.value.version)]);
        } else if (update.case === "change") {
          state.versions.push([Number(update.value.previousVersion), Number(update.value.version)]);
        }
      }
      state.hasEnded = true;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function followEvents(base: string, jobId: string, state: Followed): void {
  const source = new EventSource(`${base}/interlock.v1.JobService/WatchJob?job_id=${jobId}`);
  source.addEventListener("open", () => {
    state.opened += 1;
  });
  source.addEventListener("snapshot", ({ data }) => {
    state.versions.push([0, Number(JSON.parse(data).snapshot.version)]);
  });
  source.addEventListener("change", ({ data }) => {
    const { previousVersion, version } = JSON.parse(data).change;
    state.versions.push([Number(previousVersion), Number(version)]);
  });
  source.addEventListener("end", () => {
    state.hasEnded = true;
    source.close();
  });
}

/** Opens watches of a job that stay open, then reads it. Returns how many watches had their snapshot before that. */
async function hold(base: string, jobId: string, count: number): Promise<number> {
  const jobs = createClient(JobService, transport(base, "Connect, proto"));
  const watches = Array.from({ length: count }, () => jobs.watchJob({ jobId })[Symbol.asyncIterator]());
  const first = await Promise.all(watches.map((watch) => watch.next()));
  await jobs.getJob({ jobId });
  return first.filter(({ value }) => value?.update.case === "snapshot").length;
}

/** What a page can send to any server without a preflight. Returns the error. Undefined: the browser shows none. */
async function sendForm(url: string, body: string): Promise<string | undefined> {
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  return fetch(url, { method: "POST", mode: "no-cors", headers, body }).then(
    () => undefined,
    (error: unknown) => String(error),
  );
}

/** The version of HTTP of each rpc that was answered. */
function protocolsOfHttp(): string[] {
  const entries = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
  return entries.filter(({ name }) => name.includes("/interlock.v1.")).flatMap((entry) => entry.nextHopProtocol || []);
}

export const calls = {
  run,
  fail,
  flood,
  follow,
  followed: (id: string) => followed.get(id),
  hold,
  sendForm,
  protocolsOfHttp,
};

declare global {
  interface Window {
    calls: typeof calls;
  }
}
window.calls = calls;
