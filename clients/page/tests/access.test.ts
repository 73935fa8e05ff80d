// What assistive technology needs of each view, by the rules of axe, in Chromium against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import axe from "axe-core";
import type { Page } from "puppeteer-core";
import { browser, rpc, sharedServer, work } from "./support.js";

const chromium = browser();
const server = sharedServer({}, fill);

/** Something of each kind in each view: stages in each state, holders and waiters, a breaker, captions. */
async function fill(address: string): Promise<void> {
  const stages = [
    { name: "broken", queue: "broken", onFailure: "STAGE_ON_FAILURE_CONTINUE" },
    { name: "runs", queue: "runs" },
    { name: "ready", queue: "ready" },
    { name: "waits", queue: "waits", permits: [{ resource: "tts" }] },
    { name: "blocked", queue: "ready", dependsOn: ["ready"] },
  ];
  await rpc(address, "PermitService/UpdateResource", { name: "tts", policy: { capacity: 1, breaker: {} } });
  await rpc(address, "PermitService/AcquirePermit", { claims: [{ resource: "tts" }], holder: "bot-1", ttl: "3600s" });
  await rpc(address, "JobService/SubmitJob", { jobId: "film", kind: "film", labels: { team: "acme" }, stages });
  await rpc(address, "JobService/SubmitJob", { jobId: "paused", kind: "film" });
  await rpc(address, "JobService/PauseJob", { jobId: "paused" });
  await rpc(address, "JobService/SubmitJob", { jobId: "cancelled", kind: "film" });
  await rpc(address, "JobService/CancelJob", { jobId: "cancelled" });
  await work(address, "broken", ({ leaseToken }) => {
    const details = { traceback: 'File "encode.py", line 12' };
    const failure = { failureClass: "FAILURE_CLASS_CLIENT_ERROR", message: "no such codec", details };
    return rpc(address, "WorkerService/FailStage", { target: { leaseToken }, failure });
  });
  const { leases = [] } = await rpc(address, "WorkerService/LeaseStages", { workerId: "w", queues: ["runs"] });
  // A stage waits for a permit once a worker could not lease it.
  await rpc(address, "WorkerService/LeaseStages", { workerId: "w", queues: ["waits"] });
  const target = { leaseToken: leases[0].leaseToken };
  await rpc(address, "WorkerService/UpdateStageProgress", { target, progress: 0.4, message: "frame 40" });
  const operations = [{ field: "status", set: "open" }];
  await rpc(address, "RecordService/UpdateRecord", {
    collection: "scenes",
    recordId: "1",
    allowMissing: true,
    operations,
  });
  const segment = { kind: "SEGMENT_KIND_TRANSCRIPT", speaker: "Anna", text: "Good morning" };
  const segments = [
    { ...segment, key: "a", start: "1s" },
    { ...segment, key: "b", start: "2s", status: "SEGMENT_STATUS_INTERIM", sequence: 1 },
  ];
  await rpc(address, "TimelineService/AppendSegments", { sessionId: "meeting", allowMissing: true, segments });
}

const VIEWS: readonly [hash: string, shown: string][] = [
  ["#/jobs", "film"],
  ["#/jobs/film?stage=broken", "no such codec"],
  ["#/jobs/film?stage=waits", "Stage waits"],
  ["#/queues", "Last renewal"],
  ["#/permits", "tts"],
  ["#/permits/tts", "0 callers and 1 stage"],
  ["#/records", "scenes"],
  ["#/records/scenes?record=1", "Record 1"],
  ["#/sessions?q=morning", "Good"],
  ["#/sessions/meeting", "Good morning"],
  ["#/server", "Background loops"],
  ["#/nowhere", "There is no such view"],
];

/** The rules that are broken, each with the elements that break it. */
async function broken(page: Page): Promise<string[]> {
  // The policy of the page forbids scripts that are added to it, but not those of its debugger.
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    return (window as unknown as { axe: typeof axe }).axe.run(document, { runOnly: tags });
  });
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, any }) => `${id}: ${html.slice(0, 200)} ${any.map(({ message }) => message).join("; ")}`),
  );
}

for (const scheme of ["light", "dark"]) {
  for (const [device, width] of [
    ["desktop", 1_280],
    ["phone", 360],
  ] as const) {
    test(`axe finds nothing in any view, ${scheme}, on a ${device}`, async () => {
      const { page, shows, go } = await chromium.open(server.address);
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.setViewport({ width, height: 800 });
      const found: Record<string, string[]> = {};
      for (const [hash, shown] of VIEWS) {
        await go(hash);
        await shows(shown, "main");
        const faults = await broken(page);
        if (faults.length > 0) {
          found[hash] = faults;
        }
      }
      assert.deepEqual(found, {});
      await page.close();
    });
  }
}
