// How the page is used in a real browser: idle, by keys, and with very much in it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startServer } from "../../typescript/src/test_server.js";
import { assertQuiet, browser, rpc, sharedServer, type Watched } from "./support.js";

const chromium = browser();
const server = sharedServer();

test("an open page costs the server one watch at most", async () => {
  const { address } = server;
  const watchers = async () => Number((await rpc(address, "AdminService/GetStatistics", {})).feed.watchers ?? 0);
  const until = async (wanted: number) => {
    const deadline = Date.now() + 20_000;
    while ((await watchers()) !== wanted) {
      assert.ok(Date.now() < deadline, `${await watchers()} watchers, not ${wanted}`);
    }
  };
  await rpc(address, "JobService/SubmitJob", { jobId: "idle", kind: "idle" });
  await chromium.closePages();
  await until(0);
  const opened = await chromium.open(address, "#/jobs?kind=idle");
  await opened.shows("1 job");
  await until(1);
  await opened.go("#/jobs/idle");
  await opened.shows("Pending", ".title");
  await until(1);
  await opened.go("#/server");
  await opened.shows("Background loops");
  await until(0);
  assertQuiet(opened);
});

test("the list is used by keys, and its parts have names", async () => {
  const jobs = Array.from({ length: 40 }, (_, n) => ({ jobId: `key-${n}`, kind: "keys" }));
  await rpc(server.address, "JobService/BatchSubmitJobs", { jobs });
  const opened = await chromium.open(server.address, "#/jobs?kind=keys");
  const { page, shows } = opened;
  await shows("40 jobs");
  await page.focus(".list a");
  for (let n = 0; n < 39; n += 1) {
    await page.keyboard.press("ArrowDown");
  }
  await page.waitForFunction(
    () => document.activeElement?.closest("[data-index]")?.getAttribute("data-index") === "39",
  );
  await page.keyboard.press("Enter");
  await shows("Pending", ".title");
  await page.waitForSelector("[data-stage]");
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll("button, a, input, select, [role=progressbar]")]
      .filter((element) => {
        const label = element.closest("label")?.textContent ?? "";
        return `${element.textContent}${element.getAttribute("aria-label") ?? ""}${label}`.trim() === "";
      })
      .map((element) => element.outerHTML),
  );
  assert.deepEqual(unnamed, []);
  assertQuiet(opened);
});

test("5,000 jobs and 10,000 stages: only what is in sight is in the document", async () => {
  const big = await startServer();
  try {
    for (let batch = 0; batch < 5; batch += 1) {
      const jobs = Array.from({ length: 1_000 }, (_, n) => ({ jobId: `job-${batch}-${n}`, kind: "many" }));
      await rpc(big.address, "JobService/BatchSubmitJobs", { jobs });
    }
    const stages = Array.from({ length: 10_000 }, (_, n) => ({
      name: `stage-${n}`,
      queue: "large",
      dependsOn: n < 100 ? [] : [`stage-${n - 100}`],
    }));
    await rpc(big.address, "JobService/SubmitJob", { jobId: "large", kind: "large", stages });
    const opened = await chromium.open(big.address);
    const { page, shows, go } = opened;
    await shows("5,001 jobs");
    const rows = await measure(page, ".list");
    process.stdout.write(`5,000 jobs: ${JSON.stringify(rows)}\n`);
    assert.ok(rows.nodes < 60, `${rows.nodes} rows`);
    await go("#/jobs/large");
    await shows("Stages (10,000)");
    await page.waitForSelector("[data-stage]");
    const graph = await measure(page, ".graph");
    process.stdout.write(`10,000 stages: ${JSON.stringify(graph)}\n`);
    assert.ok(graph.nodes < 400, `${graph.nodes} stages`);
    for (let batch = 0; batch < 6; batch += 1) {
      const jobs = Array.from({ length: 1_000 }, (_, n) => ({ jobId: `more-${batch}-${n}`, kind: "many" }));
      await rpc(big.address, "JobService/BatchSubmitJobs", { jobs });
    }
    await go("#/queues");
    await shows("10,000+");
    await go("#/jobs");
    await shows("more than 10,000 match");
    await shows("more-5-");
    assertQuiet(opened);
  } finally {
    await big.stop();
  }
});

/** Scrolls through a part, and returns the times of frames in milliseconds and the number of its rows or stages. */
async function measure(page: Watched["page"], selector: string) {
  return page.evaluate(async (where) => {
    const part = document.querySelector(where);
    const times: number[] = [];
    let nodes = 0;
    let last = performance.now();
    for (let frame = 0; frame < 120 && part !== null; frame += 1) {
      part.scrollTop += 400;
      part.scrollLeft += 100;
      const now = await new Promise<number>((resolve) => requestAnimationFrame(() => resolve(performance.now())));
      times.push(now - last);
      last = now;
      nodes = Math.max(nodes, part.querySelectorAll("[data-index], [data-stage]").length);
    }
    times.sort((one, other) => one - other);
    const at = (share: number) => Math.round(times[Math.floor(share * (times.length - 1))] ?? 0);
    return { p50: at(0.5), p95: at(0.95), max: at(1), nodes };
  }, selector);
}
