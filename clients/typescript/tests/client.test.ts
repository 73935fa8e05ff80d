// Calls and watches of the client, against a scripted server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  Backoff,
  Client,
  type ClientOptions,
  Code,
  Conflict,
  DeadlineExceeded,
  InterlockError,
  InvalidArgument,
  JobState,
  NotFound,
  ResourceExhausted,
  Unavailable,
  VersionInFuture,
} from "../src/index.js";
import { JobChangeSchema, JobSchema, StageSchema, StageState, WorkerService } from "../src/v1.js";
import { CUT, type FakeServer, HANG, refusal, withFake } from "./fake_server.js";
import { within } from "./support.js";

async function withClient(
  body: (client: Client, server: FakeServer) => Promise<void>,
  options: ClientOptions = {},
): Promise<void> {
  await withFake(async (server) => {
    const backoff = new Backoff({ firstMs: 1, longestMs: 10 });
    const client = new Client({ address: server.address, backoff, log: null, ...options });
    try {
      await body(client, server);
    } finally {
      await client.close();
    }
  });
}

test("what can be repeated is repeated under the same request id, and after what the server asks for", async () => {
  await withClient(async (client, server) => {
    server.refusals.set("submitJob", [
      CUT,
      refusal(Code.Aborted, "CONFLICT"),
      refusal(Code.ResourceExhausted, "OVERLOADED", { pushbackMs: 700 }),
      refusal(Code.Unavailable, "DRAINING"),
    ]);
    assert.equal((await client.submitJob("film")).jobId, "new");
    const [, , refused, next] = server.calls.map((call) => call.at);
    assert.ok((next ?? 0) - (refused ?? 0) >= 690);
    const ids = server.of("submitJob").map((request) => request.requestId);
    assert.equal(ids.length, 5);
    assert.match(ids[0], /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-/);
    assert.equal(new Set(ids).size, 1);
  });
});

test("what must not be repeated is not, and has the class of its reason", async () => {
  await withClient(async (client, server) => {
    server.refusals.set("submitJob", [
      refusal(Code.InvalidArgument, "INVALID_FIELD", { field: "stages[0].name" }),
      refusal(Code.ResourceExhausted, "RATE_LIMITED", { pushbackMs: -1 }),
      refusal(Code.Internal, ""),
    ]);
    await assert.rejects(client.submitJob("film"), (error) => {
      assert.ok(error instanceof InvalidArgument);
      assert.deepEqual(error.violations, [{ field: "stages[0].name", description: "is wrong" }]);
      assert.equal(error.message, "INVALID_FIELD: refused: INVALID_FIELD");
      return true;
    });
    await assert.rejects(client.submitJob("film"), ResourceExhausted);
    await assert.rejects(client.submitJob("film"), { name: "Internal" });
    assert.equal(server.of("submitJob").length, 3);
  });
});

test("a request that cannot be encoded fails at once", async () => {
  await withClient(async (client, server) => {
    await assert.rejects(within(client.submitJob("film", { priority: 1.5 })), /priority.*1\.5/);
    assert.equal(server.calls.length, 0);
    assert.equal((await client.submitJob("film")).jobId, "new");
  });
});

test("a call is answered while tens of megabytes of others are sent, and none is sent twice", async () => {
  await withClient(async (client, server) => {
    const payload = { text: "x".repeat(3 << 20) };
    const large = Array.from({ length: 10 }, () => client.submitJob("film", { payload }));
    await within(Promise.all([...large, client.getJob("a")]));
    assert.deepEqual([server.of("submitJob").length, server.of("getJob").length], [10, 1]);
  });
});

test("the last failure is thrown when the time of a call is over", async () => {
  await withClient(async (client, server) => {
    server.refusals.set(
      "getJob",
      Array.from({ length: 10_000 }, () => refusal(Code.Aborted, "CONFLICT")),
    );
    await assert.rejects(client.getJob("a", { timeoutMs: 1_000 }), Conflict);
    assert.ok(server.of("getJob").length > 1);
  });
});

test("a request id that the caller gives is sent as it is; headers, key and namespace go with each call", async () => {
  const requestId = crypto.randomUUID();
  await withClient(
    async (client, server) => {
      await client.submitJob("film", { requestId });
      const [call] = server.calls;
      assert.equal(call?.request.requestId, requestId);
      const sent = ["interlock-namespace", "authorization", "x-team"].map((name) => call?.headers.get(name));
      assert.deepEqual(sent, ["studio", "Bearer il_key", "voices"]);
    },
    { namespace: "studio", apiKey: " il_key\n", headers: { "x-team": "voices" } },
  );
});

test("twenty calls at once warn of no leak", async () => {
  const warnings: unknown[] = [];
  const warned = (warning: unknown) => warnings.push(warning);
  process.on("warning", warned);
  await withClient(async (client) => {
    const signal = new AbortController().signal;
    await Promise.all(Array.from({ length: 20 }, (_, n) => client.getJob(String(n), { signal })));
    await new Promise(setImmediate);
  });
  process.off("warning", warned);
  assert.deepEqual(warnings, []);
});

const snapshot = (version: bigint, state: JobState, stages: { name: string; state: StageState }[] = []) => ({
  update: {
    case: "snapshot",
    value: create(JobSchema, { jobId: "job", version, state, stages: stages.map((it) => create(StageSchema, it)) }),
  },
});

const change = (previousVersion: bigint, version: bigint, state: JobState, extra: object = {}) => ({
  update: {
    case: "change",
    value: create(JobChangeSchema, { jobId: "job", previousVersion, version, state, ...extra }),
  },
});

/** The versions, states and gaps of a watch to its end. */
async function watched(client: Client, ...[job, options]: Parameters<Client["watch"]>): Promise<string[]> {
  const found: string[] = [];
  for await (const update of client.watch(job, options)) {
    found.push(`${update.job.version} ${JobState[update.job.state]}${update.gap ? " gap" : ""}`);
  }
  return found;
}

/** The versions that the watches began after. */
const begun = (server: FakeServer) => server.of("watchJob").map((request) => request.fromVersion);

test("a watch is resumed after its last version, however it broke", async () => {
  await withClient(async (client, server) => {
    server.streams.push(
      [snapshot(1n, JobState.PENDING), CUT],
      [refusal(Code.Unavailable, "DRAINING")],
      [change(1n, 2n, JobState.RUNNING), refusal(Code.Internal, "")],
      [],
      [change(1n, 2n, JobState.RUNNING), change(2n, 5n, JobState.SUCCEEDED)],
    );
    assert.deepEqual(await within(watched(client, "job")), ["1 PENDING", "2 RUNNING", "5 SUCCEEDED"]);
    assert.deepEqual(begun(server), [0n, 1n, 1n, 2n, 2n]);
  });
});

test("updates that do not follow from each other have the job read again, with a gap", async () => {
  await withClient(async (client, server) => {
    server.streams.push(
      [snapshot(1n, JobState.PENDING), change(2n, 3n, JobState.RUNNING)],
      [snapshot(4n, JobState.RUNNING), { update: { case: "keepalive", value: { version: 9n } } }],
      [snapshot(9n, JobState.FAILED)],
    );
    assert.deepEqual(await within(watched(client, "job")), ["1 PENDING", "4 RUNNING gap", "9 FAILED gap"]);
    assert.deepEqual(begun(server), [0n, 0n, 0n]);
  });
});

test("a silent stream is given up and resumed", async () => {
  await withClient(async (client, server) => {
    // So that the silence does not include the time that a connection takes.
    await client.getJob("job");
    server.streams.push([snapshot(1n, JobState.PENDING), HANG], [change(1n, 2n, JobState.CANCELLED)]);
    assert.deepEqual(await within(watched(client, "job", { silenceMs: 1_000 })), ["1 PENDING", "2 CANCELLED"]);
    assert.deepEqual(begun(server), [0n, 1n]);
  });
});

test("a watch of a job that is known begins after its version and keeps what changes do not carry", async () => {
  await withClient(async (client, server) => {
    const stages = [
      { name: "a", state: StageState.SUCCEEDED, version: 3n, artifacts: { url: "x" } },
      { name: "b", state: StageState.READY, version: 1n },
    ];
    const known = create(JobSchema, { jobId: "job", version: 7n, state: JobState.RUNNING, stages, progress: 0.5 });
    const changed = [
      create(StageSchema, { name: "a", state: StageState.SUCCEEDED, version: 3n }),
      create(StageSchema, { name: "c", state: StageState.SUCCEEDED, version: 1n }),
    ];
    server.streams.push([change(7n, 8n, JobState.SUCCEEDED, { stages: changed, progress: 0.25 })]);
    const { value } = await within(client.watch(known).next());
    assert.deepEqual(begun(server), [7n]);
    assert.deepEqual(value?.job.stages[0]?.artifacts, { url: "x" });
    assert.deepEqual([value?.job.stageCounts?.total, value?.job.stageCounts?.succeeded], [3, 2]);
    assert.equal(value?.job.progress, 0.5);
    assert.deepEqual([known.version, known.stages.length], [7n, 2]);
  });
});

test("what cannot be resumed is thrown, and what fails for too long", async () => {
  await withClient(async (client, server) => {
    server.streams.push([refusal(Code.NotFound, "JOB_NOT_FOUND")]);
    await assert.rejects(within(watched(client, "job")), NotFound);
    server.streams.push([refusal(Code.ResourceExhausted, "STREAM_LIMIT")]);
    await assert.rejects(within(watched(client, "job")), ResourceExhausted);
    server.streams.push([refusal(Code.Internal, "")]);
    await assert.rejects(within(watched(client, "job")), InterlockError);
    server.streams.push([snapshot(5n, JobState.RUNNING), CUT], [snapshot(2n, JobState.PENDING)]);
    await assert.rejects(within(watched(client, "job")), (error) => {
      assert.ok(error instanceof InterlockError);
      return true;
    });
    server.streams.push(...Array.from({ length: 10_000 }, () => [refusal(Code.Unavailable, "DRAINING")]));
    await assert.rejects(within(watched(client, "job", { patienceMs: 50 })), Unavailable);
  });
});

test("a job at a lower version is another of the same id", async () => {
  await withClient(async (client, server) => {
    const gap = { update: { case: "gap", value: { oldestVersion: 1n } } };
    server.streams.push([gap, snapshot(2n, JobState.PENDING)]);
    await assert.rejects(within(watched(client, "job", { fromVersion: 5 })), (error) => {
      assert.ok(error instanceof VersionInFuture);
      assert.equal(error.actual, 2n);
      return true;
    });
  });
});

test("a signal, a close and leaving the loop end a watch", async () => {
  await withClient(async (client, server) => {
    const controller = new AbortController();
    const watching = watched(client, "job", { signal: controller.signal });
    await server.until(() => server.of("watchJob").length === 1);
    controller.abort(new Error("enough"));
    await assert.rejects(within(watching), /enough/);

    const watch = client.watch("job");
    const next = watch.next();
    await server.until(() => server.of("watchJob").length === 2);
    watch.close();
    assert.deepEqual(await within(next), { done: true, value: undefined });

    server.streams.push([snapshot(1n, JobState.PENDING), HANG]);
    const left = client.watch("job");
    for await (const update of left) {
      assert.equal(update.job.version, 1n);
      break;
    }
    assert.deepEqual(await within(left.next()), { done: true, value: undefined });
  });
});

test("a call that gets no answer ends with its deadline, or with its signal", async () => {
  await withClient(async (client) => {
    const request = { workerId: "w", wait: { seconds: 60n } };
    const work = (options: object) => within(client.call(WorkerService.method.leaseStages, request, options));
    await assert.rejects(work({ timeoutMs: 50 }), DeadlineExceeded);
    await assert.rejects(work({ signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
  });
});
