// Records, permits and commits against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Completion,
  field,
  InvalidTransition,
  JobState,
  jobSubmission,
  NotFound,
  PreconditionFailed,
  recordDeletion,
  recordUpdate,
  VersionMismatch,
} from "../src/index.js";
import { Deferred, realServer, unique, within, working } from "./support.js";

const real = realServer();

interface Film {
  readonly title: string;
  readonly drafts: number;
  readonly tags: readonly string[];
}

test("fields of a record are changed in one call, each by its own operation", async () => {
  const { client } = real;
  const films = unique("films");
  const created = await client.updateRecord<Film>(
    films,
    "signals",
    [field("title").set("Signals"), field("drafts").increment(2n), field("tags").addToSet("radio", "short", "radio")],
    { allowMissing: true },
  );
  assert.deepEqual(created.fields, { title: "Signals", drafts: 2, tags: ["radio", "short"] });
  assert.equal(created.version, 1n);
  assert.ok(Math.abs(created.createTime.getTime() - Date.now()) < 3_600_000);
  const changed = await client.updateRecord(films, "signals", [
    field("title").unset(),
    field("tags").remove("radio"),
    field("tags").append("long"),
    field("low").maximum(3),
    field("high").minimum(3),
    field("meta").set({ a: { b: 1 }, c: null }),
    field("meta").merge({ a: { d: 2 }, c: "x" }),
  ]);
  assert.deepEqual(changed.fields, {
    drafts: 2,
    high: 3,
    low: 3,
    meta: { a: { b: 1, d: 2 }, c: "x" },
    tags: ["short", "long"],
  });
  assert.equal(changed.fieldVersions.drafts, 1n);
  assert.equal(changed.fieldVersions.tags, 2n);
});

test("a stale version of a record or a field is refused with the current one", async () => {
  const { client } = real;
  const films = unique("films");
  await client.updateRecord(films, "f", [field("n").set(1)], { allowMissing: true, expectedVersion: 0 });
  const stale = { expectedVersion: 7 };
  await assert.rejects(client.updateRecord(films, "f", [field("n").set(2)], stale), (error) => {
    assert.ok(error instanceof VersionMismatch);
    assert.equal(error.actual, 1n);
    return true;
  });
  await assert.rejects(client.updateRecord(films, "f", [field("n", stale).set(2)]), VersionMismatch);
  assert.deepEqual((await client.getRecord(films, "f")).fields, { n: 1 });
});

test("many records are updated together or each for itself, listed and deleted", async () => {
  const { client } = real;
  const films = unique("films");
  const ids = ["a", "b", "c"];
  const options = { allowMissing: true };
  await client.updateRecords(ids.map((id, n) => recordUpdate(films, id, [field("n").set(n)], options)));
  const results = await client.writeRecords([
    recordUpdate(films, "a", [field("n").increment(10)]),
    recordUpdate(films, "missing", [field("n").increment(10)]),
  ]);
  assert.deepEqual(
    results.map((result) => result.status?.code ?? 0),
    [0, 5],
  );
  const found = [];
  for await (const record of client.listRecords<{ n: number }>(films, "fields.n >= 2")) {
    found.push([record.recordId, record.fields.n]);
  }
  assert.deepEqual(found.sort(), [
    ["a", 10],
    ["c", 2],
  ]);
  const collections = [];
  for await (const { name, recordCount } of client.listCollections()) {
    collections.push(`${name} ${recordCount}`);
  }
  assert.ok(collections.includes(`${films} 3`), collections.join());
  await client.deleteRecord(films, "a");
  await assert.rejects(client.getRecord(films, "a"), NotFound);
});

test("names that JavaScript objects have by themselves are names as any", async () => {
  const films = unique("films");
  const set = [field("constructor").set({ toString: 1, hasOwnProperty: null })];
  const record = await real.client.updateRecord(films, "f", set, { allowMissing: true });
  assert.equal(JSON.stringify(record.fields), '{"constructor":{"hasOwnProperty":null,"toString":1}}');
  assert.throws(() => field("x").set(JSON.parse('{"__proto__": {}}')), /x\.__proto__: .*would be lost/);
});

test("a watch of records begins with each as it is and goes on with what changes", async () => {
  const { client } = real;
  const films = unique("films");
  await client.updateRecord(films, "a", [field("x").set(1), field("y").set(1)], { allowMissing: true });
  const watch = client.watchRecords([
    [films, "a"],
    [films, "b"],
  ]);
  const first = [await within(watch.next()), await within(watch.next())].map(({ value }) => value);
  assert.deepEqual(first.map((update) => [update?.recordId, update?.record?.fields]).sort(), [
    ["a", { x: 1, y: 1 }],
    ["b", undefined],
  ]);
  await client.updateRecord(films, "a", [field("x").increment(), field("y").unset()]);
  const { value: second } = await within(watch.next());
  assert.deepEqual([second?.record?.fields, second?.record?.version], [{ x: 2 }, 2n]);
  assert.deepEqual([[...(second?.changed ?? [])], [...(second?.removed ?? [])]], [["x"], ["y"]]);
  await client.deleteRecord(films, "a");
  const { value: third } = await within(watch.next());
  assert.deepEqual([third?.record, [...(third?.removed ?? [])]], [undefined, ["x"]]);
  watch.close();
  assert.deepEqual(await within(watch.next()), { done: true, value: undefined });
});

test("a commit does all of it or nothing", async () => {
  const { client } = real;
  const films = unique("films");
  const jobId = unique("job");
  const requests = () => [
    recordUpdate(films, "f", [field("n").increment()], { allowMissing: true }),
    jobSubmission("review", { jobId }),
  ];
  const results = await client.commit(requests());
  assert.deepEqual([results[0]?.record?.version, results[1]?.job?.jobId], [1n, jobId]);
  await assert.rejects(client.commit(requests()), { name: "AlreadyExists" });
  assert.equal((await client.getRecord(films, "f")).version, 1n);
  await client.commit([recordDeletion(films, "f", { expectedVersion: 1 })]);
  await assert.rejects(client.getRecord(films, "f"), NotFound);
  await assert.rejects(client.commit([{ $typeName: "no.Message" }] as never), TypeError);
});

test("a handler completes its stage together with a record and a job, and a fence is refused after it", async () => {
  const { client } = real;
  const queue = unique("q");
  const films = unique("films");
  const token = new Deferred<string>();
  const review = unique("review");
  await working(
    client,
    queue,
    async (attempt) => {
      await client.commit([recordUpdate(films, "f", [field("begun").set(true)], { allowMissing: true })], {
        leaseFence: attempt.lease.leaseToken,
      });
      token.resolve(attempt.lease.leaseToken);
      const also = [recordUpdate(films, "f", [field("url").set("s3://x")]), jobSubmission("review", { jobId: review })];
      return new Completion({ artifacts: { url: "s3://x" }, also });
    },
    async () => {
      const { jobId } = await client.submitJob("film", { stages: [{ name: "main", queue }] });
      const job = await client.waitJob(jobId, { waitMs: 20_000 });
      assert.deepEqual([job.state, job.stages[0]?.artifacts], [JobState.SUCCEEDED, { url: "s3://x" }]);
    },
  );
  assert.deepEqual((await client.getRecord(films, "f")).fields, { begun: true, url: "s3://x" });
  assert.equal((await client.getJob(review)).kind, "review");
  const late = recordUpdate(films, "f", [field("url").set("late")]);
  await assert.rejects(client.commit([late], { leaseFence: await token.promise }), PreconditionFailed);
});

test("what is refused beside a completion fails the attempt, and its stage is not left to expire", async () => {
  const { client } = real;
  const queue = unique("q");
  await working(
    client,
    queue,
    () => new Completion({ also: [recordUpdate("none", "missing", [field("n").set(1)])] }),
    async () => {
      const stages = [{ name: "main", queue, retryPolicy: { maxAttempts: 1 } }];
      const { jobId } = await client.submitJob("film", { stages });
      const { failure } = await client.waitJob(jobId, { waitMs: 20_000 });
      assert.match(failure?.message ?? "", /RECORD_NOT_FOUND/);
    },
  );
});

test("a job without a breaker or an end refuses what needs one", async () => {
  const resource = unique("lock");
  await real.client.setPolicy(resource, { capacity: 1 });
  await assert.rejects(real.client.resetBreaker(resource), InvalidTransition);
});
