// A large fleet on the page, in Chromium, against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertQuiet, browser, rpc, sharedServer } from "./support.js";

const WORKERS = 200;
const LEASES = 25;
const chromium = browser();
const server = sharedServer();

test("200 workers with 5,000 jobs are listed with all that they hold", async () => {
  const { address } = server;
  for (let batch = 0; batch < (WORKERS * LEASES) / 1_000; batch += 1) {
    const jobs = Array.from({ length: 1_000 }, (_, n) => ({
      jobId: `job-${batch}-${n}`,
      kind: "many",
      stages: [{ name: "main", queue: `queue-${n % 10}` }],
    }));
    await rpc(address, "JobService/BatchSubmitJobs", { jobs });
  }
  const queues = Array.from({ length: 10 }, (_, n) => `queue-${n}`);
  for (let n = 0; n < WORKERS; n += 1) {
    const request = { workerId: `worker-${n}`, queues, maxStages: LEASES, wait: "5s" };
    const { leases = [] } = await rpc(address, "WorkerService/LeaseStages", request);
    assert.equal(leases.length, LEASES, `worker-${n}`);
  }
  const opened = await chromium.open(address, "#/queues");
  await opened.shows("The first 50 workers; there are more.");
  const first = await opened.page.$$eval('section[aria-label="Workers"] tbody tr', (all) => all.length);
  assert.equal(first, 50);
  await opened.page.click('section[aria-label="Workers"] button.link');
  await opened.shows("worker-99");
  const rows = await opened.page.$$eval('section[aria-label="Workers"] tbody tr', (all) =>
    all.map((row) => [...row.children].slice(0, 2).map((cell) => cell.textContent)),
  );
  const expected = Array.from({ length: WORKERS }, (_, n) => [`worker-${n}`, String(LEASES)]).sort();
  assert.deepEqual(rows, expected);
  assert.doesNotMatch(await opened.page.evaluate(() => document.body.innerText), /there are more|more than/);
  const leased = await opened.page.$$eval('section[aria-label="Queues"] tbody tr', (all) =>
    all.map((row) => row.children[4]?.textContent),
  );
  assert.deepEqual(
    leased,
    queues.map(() => String((WORKERS * LEASES) / 10)),
  );
  assertQuiet(opened);
});

test("what waits for a resource is listed, whatever jobs are older", async () => {
  const { address } = server;
  const older = Array.from({ length: 150 }, (_, n) => ({ jobId: `older-${n}`, kind: "older" }));
  await rpc(address, "JobService/BatchSubmitJobs", { jobs: older });
  const held = { claims: [{ resource: "gpu" }], holder: "bot-1", ttl: "600s" };
  const { permit } = await rpc(address, "PermitService/AcquirePermit", held);
  const stages = [{ name: "render", queue: "render", permits: [{ resource: "gpu" }] }];
  const jobs = Array.from({ length: 60 }, (_, n) => ({
    jobId: `waits-${n}`,
    kind: "waits",
    priority: n === 7 ? 3 : 0,
    stages,
  }));
  await rpc(address, "JobService/BatchSubmitJobs", { jobs });
  const patient = { claims: [{ resource: "gpu" }], holder: "patient", priority: 5, wait: "50s", ttl: "600s" };
  const waiting = rpc(address, "PermitService/AcquirePermit", patient);
  // Stages wait once a worker could not lease them.
  const { leases = [] } = await rpc(address, "WorkerService/LeaseStages", { workerId: "w", queues: ["render"] });
  assert.deepEqual(leases, []);
  const opened = await chromium.open(address, "#/permits/gpu");
  const { page, shows } = opened;
  await shows("1 caller and 60 stages, by priority and then by time; the first 50 are shown.");
  const rows = await page.$$eval('section[aria-label="Waiting"] tbody tr', (all) =>
    all.map((row) => [row.children[0]?.textContent, row.querySelector("a")?.getAttribute("href") ?? ""]),
  );
  assert.deepEqual(rows.slice(0, 2), [
    ["patient", ""],
    ["waits-7 · render", "#/jobs/waits-7?stage=render"],
  ]);
  assert.equal(new Set(rows.map(([name]) => name)).size, 50);
  await rpc(address, "PermitService/ReleasePermit", { permitToken: permit.permitToken });
  const { permit: granted } = await waiting;
  await shows("0 callers and 60 stages");
  await page.click('a[href="#/jobs/waits-7?stage=render"]');
  await shows("Stage render");
  await rpc(address, "PermitService/ReleasePermit", { permitToken: granted.permitToken });
  assertQuiet(opened);
});
