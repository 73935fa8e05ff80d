// Permits against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BreakerState,
  FailureClass,
  field,
  PermitBlockReason,
  PermitDenied,
  PermitLost,
  PermitMode,
  permitRelease,
  recordUpdate,
  ServerError,
  StageError,
} from "../src/index.js";
import { Deferred, Lines, realServer, unique, within, working } from "./support.js";

const real = realServer();

/** The fencing token of the only holder of a resource. */
async function holderOf(resource: string): Promise<bigint> {
  const { holders } = await real.client.getResource(resource);
  assert.equal(holders.length, 1);
  return holders[0]?.fencingToken ?? 0n;
}

test("bodies that need the same lock run one after the other", async () => {
  const doc = unique("doc");
  let inside = 0;
  const fences: bigint[] = [];
  const edit = () =>
    real.client.withPermit(
      doc,
      async (permit) => {
        inside += 1;
        assert.equal(inside, 1);
        fences.push(permit.fencingTokens.get(doc) ?? 0n);
        await real.client.getResource(doc);
        inside -= 1;
        return fences.length;
      },
      { waitMs: 20_000 },
    );
  const results = await within(Promise.all([edit(), edit(), edit()]));
  assert.deepEqual(results.sort(), [1, 2, 3]);
  assert.deepEqual(
    fences,
    [...fences].sort((a, b) => Number(a - b)),
  );
});

test("what is held is denied with its reason, and readers share", async () => {
  const doc = unique("doc");
  const shared = { resource: doc, mode: PermitMode.SHARED };
  await real.client.withPermit(shared, async () => {
    await real.client.withPermit([shared], async () => {});
    await assert.rejects(real.client.acquirePermit(doc), (error) => {
      assert.ok(error instanceof PermitDenied);
      assert.deepEqual(
        error.blockers.map(({ resource, reason }) => [resource, reason]),
        [[doc, PermitBlockReason.HELD]],
      );
      assert.match(error.message, new RegExp(`${doc} HELD`));
      return true;
    });
  });
});

test("a permit is renewed far beyond its time, and is free after its end", async () => {
  const doc = unique("doc");
  await real.client.withPermit(
    doc,
    async (permit) => {
      const expiry = async () => Number((await real.client.getResource(doc)).holders[0]?.expireTime?.seconds ?? 0n);
      const first = await expiry();
      while ((await expiry()) < first + 3) {
        permit.check();
        // Paces the look: the job never ends.
        await assert.rejects(real.client.acquirePermit(doc, { waitMs: 100 }), PermitDenied);
      }
    },
    { ttlMs: 1_000 },
  );
  await real.client.releasePermit((await real.client.acquirePermit(doc)).token);
});

test("a permit that is revoked aborts its signal and rejects with PermitLost", async () => {
  const doc = unique("doc");
  const lines = new Lines();
  const client = real.open({ log: lines });
  const body = (permit: { signal: AbortSignal }) =>
    new Promise((_, reject) => {
      permit.signal.addEventListener("abort", () => reject(permit.signal.reason), { once: true });
    });
  const held = client.withPermit(doc, body, { ttlMs: 1_000, waitMs: 20_000 });
  held.catch(() => {});
  for await (const { resource } of real.client.watchResource(doc)) {
    if (resource?.holders.length === 1) {
      break;
    }
  }
  await real.client.revokePermit(doc, await holderOf(doc), { reason: "its holder is stuck" });
  await assert.rejects(within(held), (error) => {
    assert.ok(error instanceof PermitLost);
    assert.equal(error.reason, "PERMIT_LOST");
    return true;
  });
  assert.deepEqual(lines.lines, [`warn: the permit of ${doc} is lost`]);
});

test("a body that ends without noticing the loss rejects with PermitLost; an error of its own goes before", async () => {
  const doc = unique("doc");
  const revoke = async () => {
    await real.client.revokePermit(doc, await holderOf(doc));
  };
  await assert.rejects(real.client.withPermit(doc, revoke), PermitLost);
  const own = new Error("its own");
  const failing = async () => {
    await revoke();
    throw own;
  };
  await assert.rejects(real.client.withPermit(doc, failing), own);
});

test("failures of bodies open a breaker, which refuses until it is reset", async () => {
  const { client } = real;
  const api = unique("api");
  await client.setPolicy(api, { capacity: 5, breaker: {}, rates: [{ tokens: 100, periodMs: 1_000 }] });
  for (const message of ["one", "two", "three"]) {
    const failing = () => {
      throw new ServerError(message);
    };
    await assert.rejects(client.withPermit([[api, 2]], failing), { message });
  }
  await assert.rejects(client.acquirePermit(api), (error) => {
    assert.ok(error instanceof PermitDenied);
    assert.equal(error.blockers[0]?.reason, PermitBlockReason.BREAKER_OPEN);
    assert.ok((error.retryAfterMs ?? 0) > 0);
    return true;
  });
  const reset = await client.resetBreaker(api, { reason: "the vendor is well again" });
  assert.equal(reset.breakerState, BreakerState.CLOSED);
  await client.withPermit(api, () => {});
});

test("errors that say nothing about the resource do not count, and a report counts in place of the end", async () => {
  const { client } = real;
  const api = unique("api");
  await client.setPolicy(api, { breaker: { failureThreshold: 1 } });
  const cancelled = () => {
    throw new StageError(FailureClass.CANCELLED, "it is not wanted");
  };
  await assert.rejects(client.withPermit(api, cancelled));
  assert.equal((await client.getResource(api)).breakerState, BreakerState.CLOSED);
  await client.withPermit(api, (permit) => permit.report({ failureClass: FailureClass.NETWORK }));
  assert.equal((await client.getResource(api)).breakerState, BreakerState.OPEN);
});

test("`await using` releases a permit at the end of its block", async () => {
  const doc = unique("doc");
  {
    await using permit = await real.client.permit(doc);
    assert.ok(permit.token);
    await assert.rejects(real.client.acquirePermit(doc), PermitDenied);
  }
  await real.client.withPermit(doc, () => {});
});

test("a commit is fenced by a permit and ends it", async () => {
  const { client } = real;
  const doc = unique("doc");
  const docs = unique("docs");
  const edited = recordUpdate(docs, "d", [field("edits").increment()], { allowMissing: true });
  await client.withPermit(doc, async (permit) => {
    await client.commit([edited, permitRelease(permit.token)], { permitFence: permit.token });
    await assert.rejects(client.commit([edited], { permitFence: permit.token }), PermitLost);
  });
  assert.deepEqual((await client.getRecord(docs, "d")).fields, { edits: 1 });
});

test("a wait that is given up leaves no permit behind", async () => {
  const doc = unique("doc");
  const controller = new AbortController();
  const waiting = await real.client.withPermit(doc, async () => {
    const options = { waitMs: 30_000, holder: "patient", signal: controller.signal };
    const acquiring = real.client.acquirePermit(doc, options);
    acquiring.catch(() => {});
    for await (const { resource } of real.client.watchResource(doc)) {
      if (resource?.waiterCount === 1n) {
        break;
      }
    }
    const listed = [];
    for await (const { holder, jobId } of real.client.listWaiters(doc)) {
      listed.push([holder, jobId]);
    }
    assert.deepEqual(listed, [["patient", ""]]);
    controller.abort();
    return { acquiring };
  });
  await assert.rejects(waiting.acquiring, { name: "AbortError" });
  await real.client.releasePermit((await real.client.acquirePermit(doc, { waitMs: 20_000 })).token);
});

test("a stage comes together with its permits", async () => {
  const doc = unique("doc");
  const queue = unique("q");
  const fence = new Deferred<bigint | undefined>();
  await working(
    real.client,
    queue,
    async (attempt) => {
      await assert.rejects(real.client.acquirePermit(doc), PermitDenied);
      fence.resolve(attempt.permits.get(doc));
    },
    async () => {
      const { jobId } = await real.client.submitJob("edit", { stages: [{ name: "main", queue, permits: [doc] }] });
      await real.client.waitJob(jobId, { waitMs: 20_000 });
      assert.equal(typeof (await within(fence.promise)), "bigint");
    },
  );
  await real.client.withPermit(doc, () => {});
});

test("resources are listed and deleted", async () => {
  const prefix = unique("res");
  await real.client.setPolicy(`${prefix}-a`, { capacity: 1 }, { expectedVersion: 0 });
  await real.client.setPolicy(`${prefix}-b`, { minIntervalMs: 500, adaptive: { max: 9 } });
  const found = [];
  for await (const { name } of real.client.listResources(prefix)) {
    found.push(name);
  }
  assert.deepEqual(found, [`${prefix}-a`, `${prefix}-b`]);
  await real.client.deleteResource(`${prefix}-a`);
});
