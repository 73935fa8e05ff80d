// Servers that are killed, restarted and replaced while clients watch, work and wait.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Attempt, Client, field, JobState, Unavailable } from "../src/index.js";
import { freeAddress, startServer, type TestServer } from "../src/testing.js";
import { Deferred, Lines, unique, untilJob, within, working } from "./support.js";

let main: TestServer;
let steady: Client;

before(async () => {
  main = await startServer();
  steady = new Client({ address: main.address, log: null });
});

after(async () => {
  await steady.close();
  await main.stop();
});

/** Runs a body with two more servers and a client of both; the client uses the first one until it does not answer. */
async function withTwo(
  body: (first: TestServer, second: TestServer, client: Client) => Promise<void>,
  lines = new Lines(),
): Promise<void> {
  const [first, second] = [await main.beside(), await main.beside()];
  const client = new Client({ address: [first.address, second.address], log: lines });
  try {
    await body(first, second, client);
  } finally {
    await client.close();
    await first.kill();
    await second.kill();
  }
}

test("a watch goes on at another server when its own is killed, and misses nothing", async () => {
  const queue = unique("q");
  const states: string[] = [];
  let lastVersion = 0n;
  const lines = new Lines();
  await withTwo(async (first, _, client) => {
    const goOn = new Deferred();
    const handler = async (attempt: Attempt) => {
      attempt.report(0.5, "half");
      await goOn.promise;
    };
    await working(steady, queue, handler, async () => {
      const { jobId } = await steady.submitJob("film", { stages: [{ name: "main", queue }] });
      const watching = (async () => {
        for await (const { job, gap } of client.watch(jobId)) {
          assert.ok(job.version > lastVersion);
          assert.equal(gap, false);
          lastVersion = job.version;
          states.push(`${JobState[job.state]} ${job.progress}`);
          if (job.progress === 0.5) {
            await first.kill();
            goOn.resolve();
          }
        }
      })();
      await within(watching, "the watch");
      assert.equal(lastVersion, (await steady.getJob(jobId)).version);
    });
  }, lines);
  assert.equal(states.at(-1), "SUCCEEDED 1");
  assert.ok(states.includes("RUNNING 0.5"));
  assert.equal(lines.lines.length, 1, lines.lines.join("\n"));
  assert.match(lines.lines[0] ?? "", /^warn: no server answers at .*, trying again/);
});

test("a watch of a job that is idle goes on when its server is killed and started again", async () => {
  const address = await freeAddress();
  let server = await main.beside({ address });
  const client = new Client({ address, log: null });
  const { jobId } = await steady.submitJob("film");
  const watch = client.watch(jobId);
  assert.equal((await within(watch.next())).value?.job.state, JobState.PENDING);
  const next = watch.next();
  await server.kill();
  await steady.cancelJob(jobId, { gracePeriodMs: 0 });
  server = await main.beside({ address });
  const { value } = await within(next, "the next update");
  assert.equal(value?.job.state, JobState.CANCELLED);
  assert.deepEqual(await within(watch.next()), { done: true, value: undefined });
  await client.close();
  await server.stop();
});

test("watches of jobs, records and resources go on at another server", async () => {
  const films = unique("films");
  const doc = unique("doc");
  const kind = unique("kind");
  await steady.updateRecord(films, "f", [field("n").set(1)], { allowMissing: true });
  await steady.setPolicy(doc, { capacity: 1 });
  const { jobId } = await steady.submitJob(kind);
  await withTwo(async (first, _, client) => {
    const jobs = client.watchJobs(`kind = "${kind}"`);
    const records = client.watchRecords<{ n: number }>([[films, "f"]]);
    const resource = client.watchResource(doc);
    assert.equal((await within(jobs.next())).value?.type, "appeared");
    assert.deepEqual((await within(jobs.next())).value, { type: "caughtUp", jobs: 1 });
    assert.equal((await within(records.next())).value?.record?.fields.n, 1);
    assert.equal((await within(resource.next())).value?.resource?.policy?.capacity, 1n);
    const next = [jobs.next(), records.next(), resource.next()] as const;
    await first.kill();
    await steady.updateRecord(films, "f", [field("n").increment()]);
    await steady.setPolicy(doc, { capacity: 2 });
    await steady.cancelJob(jobId, { gracePeriodMs: 0 });
    const [event, update, policy] = await within(Promise.all(next), "what came next");
    assert.equal(event.value?.type === "changed" && event.value.job.state, JobState.CANCELLED);
    assert.deepEqual([update.value?.record?.fields, [...(update.value?.changed ?? [])]], [{ n: 2 }, ["n"]]);
    assert.equal(policy.value?.resource?.policy?.capacity, 2n);
  });
});

test("a worker goes on at another server when its own is killed mid-work", async () => {
  const queue = unique("q");
  const goOn = new Deferred();
  const attempts: number[] = [];
  await withTwo(async (first, _, client) => {
    const handler = async (attempt: Attempt) => {
      attempts.push(attempt.number);
      attempt.report(0.5);
      await goOn.promise;
      attempt.check();
      return { done: true };
    };
    await working(
      client,
      queue,
      handler,
      async () => {
        const { jobId } = await steady.submitJob("film", { stages: [{ name: "main", queue }] });
        const before = await untilJob(steady, jobId, (job) => job.progress === 0.5);
        await first.kill();
        // The lease is renewed at the other server.
        const expiry = before.stages[0]?.lease?.expireTime?.seconds ?? 0n;
        let now = expiry;
        while (now < expiry + 2n) {
          now = (await steady.waitJob(jobId, { waitMs: 100 })).stages[0]?.lease?.expireTime?.seconds ?? 0n;
        }
        goOn.resolve();
        const job = await steady.waitJob(jobId, { waitMs: 20_000 });
        assert.deepEqual([job.state, job.stages[0]?.artifacts], [JobState.SUCCEEDED, { done: true }]);
        // It takes more work, too.
        const more = await steady.submitJob("film", { stages: [{ name: "main", queue }] });
        assert.equal((await steady.waitJob(more.jobId, { waitMs: 20_000 })).state, JobState.SUCCEEDED);
      },
      { leaseDurationMs: 3_000 },
    );
  });
  assert.deepEqual(attempts, [1, 1]);
});

test("a worker whose only server is restarted reports the end of its work then", async () => {
  const queue = unique("q");
  const address = await freeAddress();
  let server = await main.beside({ address });
  const client = new Client({ address, log: null });
  const started = new Deferred();
  const goOn = new Deferred();
  const handler = async () => {
    started.resolve();
    await goOn.promise;
    return { done: true };
  };
  await working(client, queue, handler, async () => {
    const { jobId } = await steady.submitJob("film", { stages: [{ name: "main", queue }] });
    await within(started.promise);
    await server.kill();
    goOn.resolve();
    // A call of the client shows that the outcome could not be reported yet.
    await assert.rejects(client.getJob(jobId, { timeoutMs: 300 }), Unavailable);
    server = await main.beside({ address });
    const job = await steady.waitJob(jobId, { waitMs: 20_000 });
    assert.deepEqual([job.state, job.stages[0]?.attempt], [JobState.SUCCEEDED, 1]);
  });
  await client.close();
  await server.stop();
});

test("a call waits for a server that starts later, and the log says so once", async () => {
  const address = await freeAddress();
  const lines = new Lines();
  const client = new Client({ address, log: lines });
  const { jobId } = await steady.submitJob("film");
  await assert.rejects(client.getJob(jobId, { timeoutMs: 300 }), (error) => {
    assert.ok(error instanceof Unavailable);
    assert.match(error.message, new RegExp(`no server answers at ${address}: .*ECONNREFUSED`));
    return true;
  });
  const reading = client.getJob(jobId);
  const server = await main.beside({ address });
  assert.equal((await within(reading)).jobId, jobId);
  assert.equal(lines.lines.length, 2, lines.lines.join("\n"));
  assert.match(lines.lines[1] ?? "", /^warn: a server answers at .* again, after/);
  await client.close();
  await server.stop();
});

test("a permit is renewed at another server when its own is killed", async () => {
  const doc = unique("doc");
  await withTwo(async (first, _, client) => {
    const held = client.withPermit(
      doc,
      async (permit) => {
        await first.kill();
        const expiry = async () => (await steady.getResource(doc)).holders[0]?.expireTime?.seconds ?? 0n;
        const before = await expiry();
        while ((await expiry()) < before + 3n) {
          permit.check();
          await steady.acquirePermit(doc, { waitMs: 100 }).catch(() => {});
        }
      },
      { ttlMs: 3_000 },
    );
    await within(held);
  });
});

test("closing the client ends its watches and calls with an error", async () => {
  const client = new Client({ address: main.address, log: null });
  const { jobId } = await client.submitJob("film");
  const watch = client.watch(jobId);
  await within(watch.next());
  const [next, waiting] = [watch.next(), client.waitJob(jobId)];
  const ends = Promise.allSettled([next, waiting]);
  await client.close();
  for (const end of await within(ends)) {
    assert.match(String(end.status === "rejected" && end.reason), /the client is closed/);
  }
  await assert.rejects(client.getJob(jobId), /the client is closed/);
});
