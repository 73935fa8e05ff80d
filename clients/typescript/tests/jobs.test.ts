// Jobs and workers against the real server. Each test has a queue of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AlreadyExists,
  type Attempt,
  Completion,
  FailureClass,
  InvalidArgument,
  InvalidTransition,
  JobState,
  NotFound,
  StageError,
  StageState,
  timestampDate,
  VersionMismatch,
  Worker,
} from "../src/index.js";
import { AdminService, JobService, WorkerService } from "../src/v1.js";
import { Deferred, realServer, unique, untilJob, untilStopped, within, working } from "./support.js";

const real = realServer();
const quick = { initialBackoffMs: 1, jitterMs: 0 };

test("a job of dependent stages runs to its end", async () => {
  const queue = unique("q");
  const handler = (attempt: Attempt) => {
    if (attempt.stageName === "voice") {
      const { text } = attempt.input as { text: string };
      return new Completion({ artifacts: { text: text.toUpperCase(), lang: attempt.payload.lang } });
    }
    const voice = attempt.dependencies.get("voice")?.artifacts as { text: string; lang: string };
    return new Completion({ artifacts: { film: `${voice.text}!` }, jobResult: { lang: voice.lang }, message: "cut" });
  };
  await working(real.client, queue, handler, async () => {
    const submitted = await real.client.submitJob("film", {
      stages: [
        { name: "voice", queue, input: { text: "hello" } },
        { name: "render", queue, dependsOn: ["voice"] },
      ],
      payload: { lang: "en" },
      labels: { for: "test" },
    });
    assert.equal(submitted.state, JobState.PENDING);
    const job = await real.client.waitJob(submitted.jobId, { waitMs: 20_000 });
    assert.equal(job.state, JobState.SUCCEEDED);
    assert.equal(job.progress, 1);
    assert.deepEqual(job.result, { lang: "en" });
    const [voice, render] = job.stages;
    assert.deepEqual(voice?.artifacts, { text: "HELLO", lang: "en" });
    assert.deepEqual([render?.artifacts, render?.attempt, render?.message], [{ film: "HELLO!" }, 1, "cut"]);
  });
});

test("heartbeats keep a lease far beyond its duration and carry progress", async () => {
  const queue = unique("q");
  const goOn = new Deferred();
  const handler = async (attempt: Attempt) => {
    attempt.report(0.25, "quarter");
    await goOn.promise;
  };
  await working(
    real.client,
    queue,
    handler,
    async () => {
      const { jobId } = await real.client.submitJob("renewals", { stages: [{ name: "main", queue }] });
      const job = await untilJob(real.client, jobId, ({ stages: [stage] }) => stage?.progress === 0.25);
      const first = expiryOf(job.stages[0]?.lease?.expireTime);
      assert.deepEqual([job.stages[0]?.message, job.stages[0]?.lease?.workerId], ["quarter", "w"]);
      let last = first;
      while (last - first < 2_500) {
        const now = await real.client.waitJob(jobId, { waitMs: 100 });
        last = expiryOf(now.stages[0]?.lease?.expireTime);
      }
      goOn.resolve();
      const ended = await real.client.waitJob(jobId, { waitMs: 20_000 });
      assert.deepEqual([ended.state, ended.stages[0]?.attempt], [JobState.SUCCEEDED, 1]);
    },
    { leaseDurationMs: 1_000 },
  );
});

function expiryOf(time: Parameters<typeof timestampDate>[0] | undefined): number {
  assert.ok(time);
  return timestampDate(time).getTime();
}

test("a failure is retried by its class and then recorded", async () => {
  const queue = unique("q");
  const attempts: number[] = [];
  const handler = (attempt: Attempt) => {
    attempts.push(attempt.number);
    if (attempt.number === 1) {
      throw new StageError(FailureClass.SERVER_ERROR, "first", { code: "503" });
    }
    const options = { code: "voice_not_found", details: { voice: "x" } };
    throw new StageError(FailureClass.CLIENT_ERROR, "no such voice", options);
  };
  await working(real.client, queue, handler, async () => {
    const stages = [{ name: "main", queue, retryPolicy: quick }];
    const { jobId } = await real.client.submitJob("fails", { stages });
    const job = await real.client.waitJob(jobId, { waitMs: 20_000 });
    assert.deepEqual(attempts, [1, 2]);
    assert.equal(job.state, JobState.FAILED);
    assert.equal(job.failure?.failureClass, FailureClass.CLIENT_ERROR);
    assert.deepEqual([job.failure?.code, job.failure?.message], ["voice_not_found", "no such voice"]);
    assert.deepEqual([job.failure?.details, job.failure?.attempt], [{ voice: "x" }, 2]);
  });
});

test("an error of the worker's own code has its stack trace in the failure", async () => {
  const queue = unique("q");
  const handler = () => {
    throw new TypeError("no such thing");
  };
  await working(real.client, queue, handler, async () => {
    const stages = [{ name: "main", queue, retryPolicy: { maxAttempts: 1 } }];
    const { jobId } = await real.client.submitJob("bug", { stages });
    const { failure } = await real.client.waitJob(jobId, { waitMs: 20_000 });
    assert.deepEqual([failure?.failureClass, failure?.code], [FailureClass.INTERNAL, "TypeError"]);
    assert.equal(failure?.message, "TypeError: no such thing");
    assert.match(String(failure?.details?.traceback), /jobs\.test\.[tj]s/);
  });
});

test("artifacts that cannot be stored fail the stage with the place and the fault", async () => {
  const queue = unique("q");
  const handler = () => ({ scenes: [{ length: Number.NaN }] });
  await working(real.client, queue, handler, async () => {
    const { jobId } = await real.client.submitJob("nan", { stages: [{ name: "main", queue }] });
    const { failure } = await real.client.waitJob(jobId, { waitMs: 20_000 });
    assert.equal(failure?.failureClass, FailureClass.CLIENT_ERROR);
    assert.match(failure?.message ?? "", /artifacts: scenes\[0\]\.length: JSON has no NaN/);
  });
});

test("a cancel aborts the handler's signal, and the job ends", async () => {
  const queue = unique("q");
  const started = new Deferred<Attempt>();
  const handler = (attempt: Attempt) => {
    started.resolve(attempt);
    return untilStopped(attempt);
  };
  await working(
    real.client,
    queue,
    handler,
    async () => {
      const { jobId } = await real.client.submitJob("cancelled", { stages: [{ name: "main", queue }] });
      const attempt = await within(started.promise);
      await real.client.cancelJob(jobId, { reason: "changed my mind" });
      const job = await real.client.waitJob(jobId, { waitMs: 20_000 });
      assert.deepEqual([job.state, job.cancelReason], [JobState.CANCELLED, "changed my mind"]);
      assert.equal(attempt.stopReason, "cancelled");
      assert.throws(() => attempt.report(0.5), { name: "AbortError", reason: "cancelled" });
    },
    { leaseDurationMs: 1_500 },
  );
});

test("a worker that stops gives its stage back without counting the attempt", async () => {
  const queue = unique("q");
  const started = new Deferred();
  const handler = (attempt: Attempt) => {
    started.resolve();
    return untilStopped(attempt);
  };
  const { jobId } = await real.client.submitJob("back", { stages: [{ name: "main", queue }] });
  await working(real.client, queue, handler, () => within(started.promise));
  const job = await real.client.getJob(jobId);
  assert.deepEqual([job.stages[0]?.state, job.stages[0]?.attempt], [StageState.READY, 0]);
  await working(
    real.client,
    queue,
    () => {},
    async () => {
      assert.equal((await real.client.waitJob(jobId, { waitMs: 20_000 })).state, JobState.SUCCEEDED);
    },
  );
});

test("a worker that stops while it waits for work leaves nothing leased", async () => {
  const queue = unique("q");
  await working(real.client, queue, untilStopped, async () => {
    // Until its request waits on the server, which then knows the queue.
    const { jobId } = await real.client.submitJob("first", { stages: [{ name: "main", queue }] });
    await untilJob(real.client, jobId, ({ stages: [stage] }) => stage?.state === StageState.RUNNING);
    await real.client.cancelJob(jobId, { gracePeriodMs: 0 });
  });
  const { jobId } = await real.client.submitJob("second", { stages: [{ name: "main", queue }] });
  assert.equal((await real.client.getJob(jobId)).stages[0]?.state, StageState.READY);
});

test("a stage fans out in the commit of its completion", async () => {
  const queue = unique("q");
  const handler = (attempt: Attempt) => {
    if (attempt.stageName !== "plan") {
      return { done: attempt.input };
    }
    return new Completion({
      addStages: [1, 2, 3].map((scene) => ({ name: `scene-${scene}`, queue, input: { scene } })),
    });
  };
  await working(
    real.client,
    queue,
    handler,
    async () => {
      const { jobId } = await real.client.submitJob("plan", { stages: [{ name: "plan", queue }] });
      const job = await real.client.waitJob(jobId, { waitMs: 20_000 });
      assert.equal(job.state, JobState.SUCCEEDED);
      assert.deepEqual(
        job.stages.map((stage) => stage.name),
        ["plan", "scene-1", "scene-2", "scene-3"],
      );
    },
    { concurrency: 3 },
  );
});

test("errors have the class and the reason of the server", async () => {
  const { client } = real;
  const jobId = unique("job");
  await client.submitJob("film", { jobId });
  await assert.rejects(client.submitJob("film", { jobId }), (error) => {
    assert.ok(error instanceof AlreadyExists);
    assert.deepEqual([error.reason, error.maybeApplied], ["JOB_ALREADY_EXISTS", false]);
    return true;
  });
  await assert.rejects(client.getJob("missing"), NotFound);
  await assert.rejects(client.submitJob(""), (error) => {
    assert.ok(error instanceof InvalidArgument);
    assert.deepEqual(
      error.violations.map((violation) => violation.field),
      ["kind"],
    );
    return true;
  });
  await assert.rejects(client.pauseJob(jobId, { expectedVersion: 7 }), (error) => {
    assert.ok(error instanceof VersionMismatch);
    assert.equal(error.actual, 1n);
    return true;
  });
  await assert.rejects(client.deleteJob(jobId), (error) => {
    assert.ok(error instanceof InvalidTransition);
    assert.equal(error.state, "PENDING");
    return true;
  });
});

test("a job is paused, resumed, retried, listed, explained and deleted", async () => {
  const { client } = real;
  const queue = unique("q");
  const kind = unique("kind");
  const { jobId } = await client.submitJob(kind, { stages: [{ name: "main", queue }] });
  assert.equal((await client.pauseJob(jobId)).state, JobState.PAUSED);
  assert.match((await client.explainJob(jobId)).headline, /paused/i);
  assert.equal((await client.resumeJob(jobId)).state, JobState.PENDING);
  await client.cancelJob(jobId);
  assert.equal((await client.retryJob(jobId)).run, 2);
  await client.cancelJob(jobId);
  const listed = [];
  for await (const job of client.listJobs(`kind = "${kind}"`)) {
    listed.push(job.jobId);
  }
  assert.deepEqual(listed, [jobId]);
  await client.deleteJob(jobId);
  await assert.rejects(client.getJob(jobId), NotFound);
});

test("queues are listed with their stages", async () => {
  const queue = unique("queue");
  await real.client.submitJob("film", { stages: ["a", "b"].map((name) => ({ name, queue })) });
  for await (const { name, readyCount, oldestReadyTime, leasedCount } of real.client.listQueues()) {
    if (name === queue) {
      assert.deepEqual([readyCount, oldestReadyTime !== undefined, leasedCount], [2, true, 0]);
      return;
    }
  }
  assert.fail("the queue is missing");
});

test("workers are listed with what they hold", async () => {
  const queue = unique("queue");
  const { jobId } = await real.client.submitJob("film", { stages: [{ name: "a", queue }] });
  await real.client.call(WorkerService.method.leaseStages, { workerId: queue, queues: [queue] });
  for await (const { workerId, leaseCount, queues, stages } of real.client.listWorkers()) {
    if (workerId === queue) {
      assert.deepEqual([leaseCount, queues, stages.map((stage) => stage.jobId)], [1, [queue], [jobId]]);
      return;
    }
  }
  assert.fail("the worker is missing");
});

test("a repeat under the same request id makes no second job", async () => {
  const requestId = crypto.randomUUID();
  const first = await real.client.submitJob("once", { requestId });
  const again = await real.client.submitJob("once", { requestId });
  assert.equal(again.jobId, first.jobId);
});

test("any rpc can be called with its own messages", async () => {
  const info = await real.client.call(AdminService.method.getServerInfo, {});
  assert.ok(info.version);
  const { jobId } = await real.client.submitJob("film");
  const { stage } = await real.client.call(JobService.method.getStage, { jobId, stageName: "main" });
  assert.equal(stage?.name, "main");
});

test("a namespace that does not exist ends a worker, and says so", async () => {
  const stranger = real.open({ namespace: "nowhere" });
  const running = new Worker(stranger, ["q"], { handleSignals: false }).run(() => {});
  await assert.rejects(within(running), NotFound);
});

test("a call ends with the reason of its signal", async () => {
  const controller = new AbortController();
  const waiting = real.client.waitJob((await real.client.submitJob("wait")).jobId, { signal: controller.signal });
  const reason = new Error("not needed any more");
  controller.abort(reason);
  await assert.rejects(within(waiting), reason);
});

test("many outcomes without all_or_none have request ids of their own", async () => {
  const outcome = {
    case: "completeStage",
    value: { target: { target: { case: "leaseToken", value: "no token" } } },
  } as const;
  const { results } = await real.client.call(WorkerService.method.completeStages, { outcomes: [{ outcome }] });
  assert.deepEqual([results.length, results[0]?.status?.code], [1, 3]);
});

for (const megabytes of [5, 20, 60]) {
  test(`a request of ${megabytes} MB is refused at once by its size`, async () => {
    const client = real.open();
    const payload = { text: "x".repeat(megabytes << 20) };
    await assert.rejects(client.submitJob("film", { payload }, { timeoutMs: 10_000 }), (error) => {
      assert.ok(error instanceof InvalidArgument, String(error));
      assert.equal(error.reason, "INVALID_FIELD");
      assert.match(error.message, /the message has \d+ bytes; at most 4194304 are accepted/);
      return true;
    });
    // The connection goes on.
    assert.equal((await client.submitJob("film")).kind, "film");
  });
}
