// Tests of the worker with a real server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, FailureClass, type Job, JobState, Worker } from "interlock-client";
import { startServer, type TestServer } from "interlock-client/testing";
import { handle, QUEUE, stages } from "./stages.js";

const WITHIN_MS = 30_000;
const within = { timeout: 2 * WITHIN_MS };
let server: TestServer;
let client: Client;

before(async () => {
  server = await startServer();
  client = new Client({ address: server.address, log: null });
}, within);

after(async () => {
  await client?.close();
  await server?.stop();
}, within);

/** Runs a worker while a job is worked on. */
async function ended(text: string, msPerWord: number, cancel = false): Promise<Job> {
  const worker = new Worker(client, [QUEUE], { handleSignals: false });
  const working = worker.run(handle);
  const { jobId } = await client.submitJob("text", { stages: stages(text, msPerWord) });
  if (cancel) {
    for await (const { running } of client.progress(jobId)) {
      if (running.length > 0) {
        break;
      }
    }
    await client.cancelJob(jobId, { reason: "a test" });
  }
  const job = await client.waitJob(jobId, { waitMs: WITHIN_MS });
  worker.stop();
  await working;
  return job;
}

test("words and letters are counted", within, async () => {
  const job = await ended("to be or not", 0);
  assert.equal(job.state, JobState.SUCCEEDED);
  assert.deepEqual(job.stages[0]?.artifacts, { words: 4, letters: 9 });
  assert.deepEqual(job.stages[1]?.artifacts, { lettersPerWord: 2.25 });
});

test("a text without words fails at once", within, async () => {
  const job = await ended(" ", 0);
  assert.equal(job.state, JobState.FAILED);
  const failure = job.stages[0]?.failure;
  assert.deepEqual([failure?.failureClass, failure?.code], [FailureClass.CLIENT_ERROR, "NO_WORDS"]);
});

test("a cancelled job stops its handler", within, async () => {
  const job = await ended("one two", WITHIN_MS, true);
  assert.equal(job.state, JobState.CANCELLED);
});
