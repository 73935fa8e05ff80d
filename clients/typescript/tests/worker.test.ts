// The worker, against a scripted server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import {
  type Attempt,
  Backoff,
  Client,
  Code,
  FailureClass,
  type Handler,
  ServerError,
  type WorkerOptions,
} from "../src/index.js";
import { LeaseDirective } from "../src/v1.js";
import { CUT, type FakeServer, lease, refusal, withFake } from "./fake_server.js";
import { Deferred, Lines, untilStopped, within, working } from "./support.js";

/** A server and a worker with this handler, which must stop in good order. */
async function withWorker(
  handler: Handler,
  body: (server: FakeServer, stop: () => void) => Promise<void>,
  options: WorkerOptions = {},
  lines = new Lines(),
): Promise<void> {
  await withFake(async (server) => {
    const backoff = new Backoff({ firstMs: 1, longestMs: 10 });
    const client = new Client({ address: server.address, backoff, log: lines });
    try {
      await working(client, "q", handler, (worker) => body(server, worker.stop), options);
    } finally {
      await client.close();
    }
  });
}

const ends = ["completeStage", "failStage", "releaseStage"];

test("a repeat of a lost request for work has the same id, and its stages are worked on", async () => {
  const handler = (attempt: Attempt) => ({ double: Number(attempt.input.n) * 2 });
  await withWorker(handler, async (server) => {
    await server.until(() => server.of("leaseStages").length === 1);
    server.cut();
    await server.until(() => server.of("leaseStages").length === 2);
    server.offer("t", { input: { n: 21 } });
    await server.until(() => server.of("completeStage").length === 1);
    const [first, second] = server.of("leaseStages");
    assert.match(first.requestId, /^[0-9a-f-]{36}$/);
    assert.deepEqual(second, first);
    assert.deepEqual(server.of("completeStage")[0].artifacts, { double: 42 });
    assert.equal(server.of("completeStage")[0].target.target.value, "t");
    await server.until(() => server.of("leaseStages").length === 3);
    assert.notEqual(server.of("leaseStages")[2].requestId, first.requestId);
  });
});

test("a worker that stops asks what its last request was granted, and gives it back", async () => {
  await withWorker(untilStopped, async (server, stop) => {
    await server.until(() => server.of("leaseStages").length === 1);
    server.granted = [lease("lost")];
    stop();
    await server.until(() => server.of("releaseStage").length === 1);
    const [first, second] = server.of("leaseStages");
    assert.equal(second.requestId, first.requestId);
    assert.equal(second.wait, undefined);
    assert.equal(server.of("releaseStage")[0].target.target.value, "lost");
  });
});

test("several stages share their heartbeats, and are given back when the worker stops", async () => {
  let calls: FakeServer | undefined;
  const options = { concurrency: 3 };
  await withWorker(
    untilStopped,
    async (server) => {
      calls = server;
      for (const token of "abc") {
        server.offer(token);
      }
      await server.until(() => server.of("heartbeat").some((request) => request.renewals.length === 3));
    },
    options,
  );
  const released = calls?.of("releaseStage").map((request) => request.target.target.value);
  assert.deepEqual(released?.sort(), ["a", "b", "c"]);
});

test("while a stage that was leased alone runs, no other is leased", async () => {
  const release = new Deferred();
  const handler = async (attempt: Attempt) => {
    if (attempt.lease.isolated) {
      await release.promise;
    }
  };
  await withWorker(
    handler,
    async (server) => {
      server.offer("a", { isolated: true });
      await server.until(() => server.of("heartbeat").length === 1);
      server.offer("b");
      await server.until(() => server.of("heartbeat").length === 5);
      assert.equal(server.of("leaseStages").length, 1);
      release.resolve();
      await server.until(() => server.of("completeStage").length === 2);
    },
    { concurrency: 3 },
  );
});

for (const [directive, reason, expected] of [
  [LeaseDirective.LOST, "lost", []],
  [LeaseDirective.CANCEL, "cancelled", ["releaseStage"]],
] as const) {
  test(`the directive ${LeaseDirective[directive]} aborts the signal of the handler`, async () => {
    const attempts: Attempt[] = [];
    const handler = (attempt: Attempt) => {
      attempts.push(attempt);
      return untilStopped(attempt);
    };
    await withWorker(handler, async (server) => {
      server.directive = directive;
      // So long that nothing but the directive ends it.
      server.offer("t", { ttlMs: 600_000 });
      // It asks for more work when it is done with this.
      await server.until(() => server.of("leaseStages").length === 2);
      assert.equal(attempts[0]?.stopReason, reason);
      assert.deepEqual(
        server.calls.map((call) => call.name).filter((name) => ends.includes(name)),
        expected,
      );
    });
  });
}

test("reports that follow each other quickly become one renewal before a heartbeat is due", async () => {
  const handler = (attempt: Attempt) => {
    for (let step = 1; step <= 100; step += 1) {
      attempt.report(step / 100, `step ${step}`);
    }
    return untilStopped(attempt);
  };
  await withWorker(handler, async (server) => {
    server.offer("t", { intervalMs: 10_000 });
    await server.until(() => server.of("heartbeat").length === 1);
    const [renewal] = server.of("heartbeat")[0].renewals;
    assert.deepEqual([renewal.progress, renewal.message], [1, "step 100"]);
  });
});

test("progress of a heartbeat that failed goes with the next one; a lease that cannot be renewed is lost", async () => {
  const lines = new Lines();
  const stopped = new Deferred<string | undefined>();
  const handler = async (attempt: Attempt) => {
    attempt.report(0.5);
    await untilStopped(attempt).catch(() => {});
    stopped.resolve(attempt.stopReason);
    throw new Error("stopped");
  };
  await withWorker(
    handler,
    async (server) => {
      const away = Array.from({ length: 10_000 }, () => refusal(Code.Unavailable, "STORE_UNAVAILABLE"));
      server.refusals.set("heartbeat", away);
      server.offer("t", { intervalMs: 100, ttlMs: 1_000 });
      assert.equal(await within(stopped.promise), "lost");
      const progress = server.of("heartbeat").map((request) => request.renewals[0].progress);
      assert.ok(progress.every((value) => value === 0.5));
      await server.until(() => server.of("leaseStages").length === 2);
      assert.deepEqual(
        server.calls.map((call) => call.name).filter((name) => ends.includes(name)),
        [],
      );
    },
    {},
    lines,
  );
  assert.ok(lines.lines.includes("warn: main of job: the lease could not be renewed"));
});

test("the end of an attempt is repeated under one request id until it is answered", async () => {
  await withWorker(
    () => ({ done: true }),
    async (server) => {
      server.refusals.set("completeStage", [CUT, refusal(Code.Unavailable, "OUTCOME_UNKNOWN", { pushbackMs: -1 })]);
      server.offer("t");
      await server.until(() => server.of("completeStage").length === 3);
      const ids = new Set(server.of("completeStage").map((request) => request.requestId));
      assert.equal(ids.size, 1);
    },
  );
});

test("a completion that is refused fails the attempt by that", async () => {
  await withWorker(
    () => ({ done: true }),
    async (server) => {
      server.refusals.set("completeStage", [refusal(Code.InvalidArgument, "INVALID_FIELD", { field: "artifacts" })]);
      server.offer("t");
      await server.until(() => server.of("failStage").length === 1);
      const { failure } = server.of("failStage")[0];
      assert.equal(failure.failureClass, FailureClass.CLIENT_ERROR);
      assert.match(failure.message, /INVALID_FIELD: refused/);
    },
  );
});

test("a failure that is refused is reported without what can be wrong with it", async () => {
  const handler = () => {
    throw new ServerError("HTTP 503", { details: { a: 1 }, retryAfterMs: 5 });
  };
  await withWorker(handler, async (server) => {
    server.refusals.set("failStage", [refusal(Code.InvalidArgument, "INVALID_FIELD", { field: "failure.details" })]);
    server.offer("t");
    await server.until(() => server.of("failStage").length === 2);
    const [first, second] = server.of("failStage").map((request) => request.failure);
    assert.deepEqual([first.details, second.details, second.retryAfter], [{ a: 1 }, undefined, undefined]);
    assert.equal(second.failureClass, FailureClass.SERVER_ERROR);
    assert.match(second.message, /^HTTP 503 \(details and retryAfterMs were left out: refused/);
  });
});

test("a handler that blocks the event loop is logged", async () => {
  const lines = new Lines();
  const handler = () => {
    const end = performance.now() + 1_700;
    while (performance.now() < end) {
      // It blocks.
    }
    return {};
  };
  const warning = /^warn: a handler blocked the event loop for \d\.\d s, and no lease was renewed meanwhile/;
  const second = new Deferred();
  await withWorker(
    async (attempt) => {
      if (attempt.lease.leaseToken === "a") {
        return handler();
      }
      await second.promise;
      return {};
    },
    async (server) => {
      server.offer("a");
      server.offer("b");
      await server.until(() => lines.lines.some((line) => warning.test(line)));
      second.resolve();
    },
    { concurrency: 2 },
    lines,
  );
});

test("a handler that never lets the event loop go is reported while it blocks", async () => {
  await withFake(async (server) => {
    server.offer("t");
    // In a process of its own, because it blocks for good.
    const program = `
      import { Client, Worker } from ${JSON.stringify(new URL("../src/index.js", import.meta.url).href)};
      const client = new Client({ address: ${JSON.stringify(server.address)} });
      await new Worker(client).run(() => {
        console.error("blocks");
        for (;;) {}
      });`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const exited = once(child, "exit");
    try {
      const lines = createInterface({ input: child.stderr })[Symbol.asyncIterator]();
      const next = async () => (await within(lines.next(), "a line of the worker")).value as string;
      let line = await next();
      while (line !== "blocks") {
        line = await next();
      }
      const began = performance.now();
      assert.match(await next(), /^interlock: warning: a handler blocks the event loop, and no lease is renewed/);
      assert.ok(performance.now() - began < 2_500);
    } finally {
      child.kill("SIGKILL");
      await exited;
    }
  });
});

test("a second stop does not wait for the grace of the handlers", async () => {
  await withWorker(
    untilStopped,
    async (server, stop) => {
      server.offer("t");
      await server.until(() => server.of("heartbeat").length > 0);
      stop();
      stop();
      await server.until(() => server.of("releaseStage").length === 1);
    },
    { graceMs: 600_000 },
  );
});
