// Imports of segments, against a scripted and the real server; and reads that may be old.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Backoff,
  Client,
  Code,
  field,
  type ImportResult,
  InvalidArgument,
  InvalidTransition,
  NotFound,
  type SegmentInput,
  SegmentKind,
} from "../src/index.js";
import { freeAddress } from "../src/testing.js";
import { WorkerService } from "../src/v1.js";
import { type FakeServer, refusal, withFake } from "./fake_server.js";
import { realServer, unique, within } from "./support.js";

const real = realServer();

/** Notes n0, n1 and so on. */
function* recorded(count: number): Generator<SegmentInput> {
  for (let place = 0; place < count; place += 1) {
    yield { key: `n${place}`, kind: SegmentKind.NOTE, text: "x", startMs: place };
  }
}

async function withClient(body: (client: Client, server: FakeServer) => Promise<void>): Promise<void> {
  await withFake(async (server) => {
    const backoff = new Backoff({ firstMs: 1, longestMs: 10 });
    await using client = new Client({ address: server.address, backoff, log: null });
    await body(client, server);
  });
}

const counts = ({ applied, unchanged, failed }: ImportResult) => [applied, unchanged, failed];

test("an import sends bounded parts and repeats the one that failed", async () => {
  await withClient(async (client, server) => {
    const session = client.session("s");
    server.refusals.set("importSegments", [refusal(Code.Unavailable, "DRAINING")]);
    assert.deepEqual(counts(await within(session.import(recorded(9_000)))), [9_000, 0, 0]);
    assert.deepEqual(server.of("importSegments"), [
      ["n0", 16, 8_000],
      ["n0", 16, 8_000],
      ["n8000", 2, 1_000],
    ]);
    const text = "x".repeat(200_000);
    const large = Array.from({ length: 12 }, (_, n) => ({ key: `l${n}`, kind: SegmentKind.NOTE, text }));
    await within(session.import(large));
    assert.deepEqual(server.of("importSegments").at(-1), ["l0", 3, 12]);
    assert.deepEqual(await session.import([]), { applied: 0, unchanged: 0, failed: 0, faults: [] });
    assert.equal(server.of("importSegments").length, 4);
  });
});

test("an import that fails says how much is stored", async () => {
  await withClient(async (client, server) => {
    const metadata = { applied_count: "400", unchanged_count: "90", failed_count: "10" };
    const ended = refusal(Code.FailedPrecondition, "INVALID_TRANSITION", { metadata });
    const first = refusal(Code.Unavailable, "DRAINING");
    server.refusals.set("importSegments", [first]);
    await client.session("s").import(recorded(1));
    const importing = client.session("s").import(
      (function* () {
        yield* recorded(8_001);
        // The first part is stored.
        server.refusals.set("importSegments", [ended]);
        yield { key: "last", kind: SegmentKind.NOTE, text: "x" };
      })(),
    );
    await assert.rejects(within(importing), (error) => {
      assert.ok(error instanceof InvalidTransition && error.imported !== undefined);
      assert.deepEqual(counts(error.imported), [8_400, 90, 10]);
      assert.match(error.message, /8490 segments of the import are stored/);
      return true;
    });
    // Errors of other calls say nothing of an import.
    server.refusals.set("getJob", [refusal(Code.NotFound, "JOB_NOT_FOUND")]);
    await assert.rejects(client.getJob("none"), (error: NotFound) => error.imported === undefined);
  });
});

test("many segments are imported, and the refused ones are named", async () => {
  const session = real.client.session(unique("s"));
  const segments = [...recorded(1_200)];
  segments[700] = { key: "n700", kind: SegmentKind.NOTE, text: "x", startMs: 2, endMs: 1 };
  const first = await session.import(segments);
  assert.deepEqual(counts(first), [1_199, 0, 1]);
  const [fault] = first.faults;
  assert.ok(fault?.error instanceof InvalidArgument);
  assert.deepEqual([fault.index, fault.key, fault.error.violations[0]?.field], [700, "n700", "end"]);
  assert.deepEqual(counts(await session.import(segments)), [0, 1_199, 1]);
  // From one session into another.
  const copy = real.client.session(unique("copy"));
  assert.deepEqual(counts(await copy.import(session.timeline())), [1_199, 0, 0]);
  const missing = real.client.session(unique("none"), { allowMissing: false });
  await assert.rejects(missing.import(recorded(1)), NotFound);
  await session.end();
  const more = [...recorded(9_000)].map((segment) => ({ ...segment, key: `more-${segment.key}` }));
  await assert.rejects(within(session.import(more)), InvalidTransition);
});

test("an import goes on at the server that comes after a kill", async () => {
  const address = await freeAddress();
  let server = await real.server.beside({ address });
  try {
    const session = real.open({ address }).session(unique("s"));
    const result = await session.import(
      (async function* () {
        yield* recorded(8_200);
        // The first part is stored, and the second one is complete only after the kill.
        await server.kill();
        server = await real.server.beside({ address });
      })(),
    );
    assert.equal(result.applied + result.unchanged, 8_200);
    assert.equal((await session.get()).segmentCount, 8_200n);
  } finally {
    await server.kill();
  }
});

test("each read carries how old its answer may be", async () => {
  const { client } = real;
  const collection = unique("c");
  await client.updateRecord(collection, "r", [field("n").set(1)], { allowMissing: true });
  const { jobId } = await client.submitJob("film", { stages: ["a", "b"].map((name) => ({ name, queue: collection })) });
  await client.call(WorkerService.method.leaseStages, { workerId: collection, queues: [collection] });
  const first = async (items: AsyncGenerator<unknown, void>) => assert.ok(!(await items.next()).done);
  const reads: Record<string, (maxStalenessMs: number) => Promise<unknown>> = {
    getJob: (maxStalenessMs) => client.getJob(jobId, { maxStalenessMs }),
    listJobs: (maxStalenessMs) => first(client.listJobs("", { maxStalenessMs })),
    listQueues: (maxStalenessMs) => first(client.listQueues({ maxStalenessMs })),
    listWorkers: (maxStalenessMs) => first(client.listWorkers({ maxStalenessMs })),
    listCollections: (maxStalenessMs) => first(client.listCollections({ maxStalenessMs })),
    getRecord: (maxStalenessMs) => client.getRecord(collection, "r", { maxStalenessMs }),
    listRecords: (maxStalenessMs) => first(client.listRecords(collection, "", { maxStalenessMs })),
  };
  for (const [name, read] of Object.entries(reads)) {
    await read(1_000);
    // Beyond what the server takes.
    await assert.rejects(read(3_600_000), (error) => {
      assert.ok(error instanceof InvalidArgument, name);
      assert.equal(error.violations[0]?.field, "max_staleness", name);
      return true;
    });
  }
});
