// The page in a real browser, against the real server.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { freeAddress, startServer } from "../../typescript/src/test_server.js";
import { assertQuiet, browser, complete, rpc, sharedServer, type Watched, work } from "./support.js";

const chromium = browser();
const server = sharedServer();

const FILM = [
  { name: "voice", queue: "film" },
  { name: "image", queue: "film" },
  { name: "render", queue: "film", dependsOn: ["voice", "image"] },
];

test("a job is seen from its submit to its success without a reload", async () => {
  const opened = await chromium.open(server.address, "#/jobs?kind=seen");
  const { page, shows, go } = opened;
  await page.evaluate(() => {
    document.body.dataset.loaded = "once";
  });
  await shows("No job matches");
  await rpc(server.address, "JobService/SubmitJob", { jobId: "film-1", kind: "seen", stages: FILM });
  await shows(/film-1\s+Pending/);
  await go("#/jobs/film-1");
  await shows("Blocked", '[data-stage="render"]');
  await work(server.address, "film", async ({ leaseToken, stageName }) => {
    await rpc(server.address, "WorkerService/UpdateStageProgress", { target: { leaseToken }, progress: 0.42 });
    await shows("Running · 42 %", `[data-stage="${stageName}"]`);
    await complete(server.address, leaseToken, { artifacts: { file: `${stageName}.wav` } });
  });
  await shows("Succeeded", '[data-stage="voice"]');
  await work(server.address, "film", ({ leaseToken }) =>
    complete(server.address, leaseToken, { artifacts: { file: "film.mp4" }, jobResult: { file: "film.mp4" } }),
  );
  await shows("Succeeded", ".title");
  await shows('"file": "film.mp4"');
  await shows("Stage completed by worker:tester", ".history");
  await page.click('[data-stage="voice"]');
  await shows("voice.wav");
  assert.equal(await page.evaluate(() => document.body.dataset.loaded), "once");
  assertQuiet(opened);
});

test("a failed stage shows its traceback, and can be retried and replayed", async () => {
  const stages = [
    { name: "encode", queue: "encode" },
    { name: "upload", queue: "encode", dependsOn: ["encode"] },
  ];
  await rpc(server.address, "JobService/SubmitJob", { jobId: "broken", kind: "film", stages });
  const opened = await chromium.open(server.address, "#/jobs/broken?stage=encode");
  const { page, shows } = opened;
  const failure = {
    failureClass: "FAILURE_CLASS_CLIENT_ERROR",
    message: "no such codec",
    details: { traceback: 'File "encode.py", line 12' },
  };
  await work(server.address, "encode", ({ leaseToken }) =>
    rpc(server.address, "WorkerService/FailStage", { target: { leaseToken }, failure }),
  );
  await shows("Failed", ".title");
  await shows("no such codec", ".failure");
  await page.click(".failure summary");
  await shows("line 12", ".failure");
  await click(page, "Retry");
  await click(page, "Retry", "dialog");
  await shows("Ready", '[data-stage="encode"]');
  await work(server.address, "encode", ({ leaseToken }) => complete(server.address, leaseToken));
  await work(server.address, "encode", ({ leaseToken }) => complete(server.address, leaseToken));
  await shows("Succeeded", ".title");
  await click(page, "Replay from here");
  await click(page, "Replay", "dialog");
  await shows("Ready", '[data-stage="encode"]');
  await click(page, "Pause");
  await shows("Paused", ".title");
  await click(page, "Resume");
  await click(page, "Cancel");
  await page.type('dialog input[name="reason"]', "no longer needed");
  await click(page, "Cancel the job", "dialog");
  await shows("Cancelled", ".title");
  await shows("no longer needed", ".reason");
  assertQuiet(opened);
});

async function click(page: Watched["page"], label: string, within = "main"): Promise<void> {
  const find = (where: string, text: string) =>
    [...document.querySelectorAll(where)].find((button) => button.textContent?.trim() === text);
  const button = await page.waitForFunction(find, {}, `${within} button`, label);
  await (button.asElement() as unknown as { click(): Promise<void> }).click();
}

test("a job that waits for a permit says so, and the resource who holds it and who waits", async () => {
  const { address } = server;
  await rpc(address, "PermitService/UpdateResource", { name: "tts", policy: { capacity: 1, breaker: {} } });
  await rpc(address, "PermitService/AcquirePermit", { claims: [{ resource: "tts" }], holder: "bot-1", ttl: "600s" });
  const stages = [{ name: "voice", queue: "voices", permits: [{ resource: "tts" }] }];
  await rpc(address, "JobService/SubmitJob", { jobId: "waits", kind: "film", stages });
  const { leases = [] } = await rpc(address, "WorkerService/LeaseStages", { workerId: "w", queues: ["voices"] });
  assert.deepEqual(leases, []);
  const opened = await chromium.open(address, "#/jobs/waits");
  const { page, shows, go } = opened;
  await shows(/waits for a permit of "tts"/, ".reason");
  await go("#/permits/tts");
  await shows("bot-1");
  await shows(/waits\s*·\s*voice/);
  await click(page, "Revoke the permit of bot-1");
  await click(page, "Revoke", "dialog");
  await shows("Nobody holds a permit");
  await shows(/revoked the permit of bot-1/);
  await click(page, "Reset breaker");
  await click(page, "Reset the breaker", "dialog");
  await shows("reset the breaker, which was closed");
  assertQuiet(opened);
});

test("the server is killed and back: the page says so, goes on and misses nothing", async () => {
  const address = await freeAddress();
  let beside = await server.beside({ address });
  const stages = [
    { name: "one", queue: "gap" },
    { name: "two", queue: "gap", dependsOn: ["one"] },
  ];
  await rpc(server.address, "JobService/SubmitJob", { jobId: "gap", kind: "gap", stages });
  const opened = await chromium.open(address, "#/jobs/gap");
  const list = await chromium.open(address, "#/jobs?kind=gap");
  await opened.shows("Ready", '[data-stage="one"]');
  await list.shows("gap");
  await beside.kill();
  await opened.shows("Cut off", ".status");
  await opened.shows("the page reconnects by itself");
  await work(server.address, "gap", ({ leaseToken }) => complete(server.address, leaseToken));
  await rpc(server.address, "JobService/SubmitJob", { jobId: "gap-2", kind: "gap" });
  beside = await server.beside({ address });
  await opened.shows("Connected", ".status");
  await opened.shows("Succeeded", '[data-stage="one"]');
  await opened.shows("Ready", '[data-stage="two"]');
  await opened.shows("Stage completed", ".history");
  await list.shows("gap-2");
  await beside.stop();
  assertQuiet(opened);
});

test("texts of users are harmless wherever they are shown", async () => {
  const { address } = server;
  const evil = `<script>alert(1)</script><img src=x onerror=alert(2)>"'><svg onload=alert(3)> \u202eabc\u202c \u2067\u05d0\u05d1`;
  const long = evil.repeat(2_000).slice(0, 30_000);
  await rpc(address, "JobService/SubmitJob", {
    jobId: "hostile",
    kind: "film",
    labels: { team: evil },
    payload: { [evil]: long },
    stages: [{ name: "evil", queue: "evil", input: { text: long }, groupKey: evil.slice(0, 60) }],
  });
  const failure = {
    failureClass: "FAILURE_CLASS_SERVER_ERROR",
    code: evil.slice(0, 100),
    message: evil.repeat(60).slice(0, 3_300),
    details: { traceback: long },
  };
  await work(address, "evil", ({ leaseToken }) =>
    rpc(address, "WorkerService/FailStage", { target: { leaseToken }, failure }),
  );
  const name = `${evil.slice(0, 40)}/?#`;
  await rpc(address, "PermitService/AcquirePermit", { claims: [{ resource: name }], holder: evil.slice(0, 100) });
  await rpc(address, "RecordService/UpdateRecord", {
    collection: "evil",
    recordId: "r",
    allowMissing: true,
    operations: [{ field: evil.slice(0, 60), set: long }],
  });
  const text = `${"x".repeat(65_000)}${evil}`;
  const segments = [{ key: "a", kind: "SEGMENT_KIND_TRANSCRIPT", start: "1s", speaker: evil.slice(0, 100), text }];
  const captions = [...segments, { ...segments[0], key: "b", text: `timetable ${evil}` }];
  await rpc(address, "TimelineService/CreateSession", { sessionId: "evil", title: evil });
  await rpc(address, "TimelineService/AppendSegments", { sessionId: "evil", segments: captions });

  const opened = await chromium.open(address, "#/jobs?kind=film");
  const { page, shows, go } = opened;
  await shows("hostile");
  const places: [hash: string, shown: string][] = [
    ["#/jobs/hostile?stage=evil", "onerror"],
    ["#/permits", "<script>"],
    [`#/permits/${encodeURIComponent(name)}`, "Fencing token"],
    ["#/records/evil?record=r", "onload"],
    ["#/sessions?q=timetable", "timetable"],
    ["#/sessions/evil", "xxxxxxxx"],
    ["#/queues", "Queues"],
    [`#/${encodeURIComponent(evil)}/x`, "There is no such view"],
    ["#/jobs/hostile?stage=evil", "Show all"],
  ];
  for (const [hash, shown] of places) {
    await go(hash);
    await shows(shown);
    for (const summary of await page.$$("main summary")) {
      await summary.click();
    }
    const elements = await page.$$eval(
      "main script, main img, main svg[onload], main iframe, main a[href^=javascript]",
      (all) => all.length,
    );
    assert.equal(elements, 0, hash);
  }
  assertQuiet(opened);
});

test("records and captions change while they are shown", async () => {
  const { address } = server;
  const put = (recordId: string, value: string) =>
    rpc(address, "RecordService/UpdateRecord", {
      collection: "scenes",
      recordId,
      allowMissing: true,
      operations: [{ field: "status", set: value }],
    });
  await put("scene-1", "open");
  const opened = await chromium.open(address, "#/records/scenes");
  const { shows, go } = opened;
  await shows("status: open");
  await put("scene-1", "done");
  await shows("status: done");
  await put("scene-2", "new");
  await shows("scene-2");

  const append = (sequence: number, status: string, text: string) =>
    rpc(address, "TimelineService/AppendSegments", {
      sessionId: "meeting",
      allowMissing: true,
      segments: [{ key: "a", kind: "SEGMENT_KIND_TRANSCRIPT", status, sequence, start: "2s", speaker: "Anna", text }],
    });
  await append(1, "SEGMENT_STATUS_INTERIM", "good mor");
  await go("#/sessions/meeting");
  await shows("good mor", ".interim");
  await append(2, "SEGMENT_STATUS_FINAL", "Good morning, everybody.");
  await shows("Good morning, everybody.", ".captions li:not(.interim)");
  assertQuiet(opened);
});

test("queues and collections are listed with their numbers", async () => {
  const { address } = server;
  const stages = ["one", "two", "three"].map((name) => ({ name, queue: "counted" }));
  await rpc(address, "JobService/SubmitJob", { jobId: "counted", kind: "film", stages });
  await rpc(address, "WorkerService/LeaseStages", { workerId: "counter", queues: ["counted"], maxStages: 1 });
  const opened = await chromium.open(address, "#/queues");
  const { page, shows, go } = opened;
  await shows("counted");
  const cells = (name: string) =>
    page.$$eval(
      "tbody tr",
      (rows, first) =>
        rows
          .map((row) => [...row.children].map((cell) => cell.textContent ?? ""))
          .find(([found]) => found === first)
          ?.join(" | "),
      name,
    );
  assert.match((await cells("counted")) ?? "", /^counted \| 2 \| (now|\d s ago) \| 0 \| 1 \| 0$/);
  await shows("counter");
  const [held, first] = [await cells("counter"), /^counter \| 1 \| (now|\d s ago) \| (now|\d s ago) \| in 1 min \| /];
  assert.match(held ?? "", new RegExp(`${first.source}counted · (one|two|three)0 %$`));
  for (const recordId of ["a", "b", "c"]) {
    const operations = [{ field: "n", set: 1 }];
    await rpc(address, "RecordService/UpdateRecord", {
      collection: "counted",
      recordId,
      allowMissing: true,
      operations,
    });
  }
  await go("#/records");
  await shows("counted");
  assert.equal(await cells("counted"), "counted | 3");
  await page.click('tbody a[href*="counted"]');
  await shows("Records (3)");
  assertQuiet(opened);
});

test("with --auth required the page asks for a key, keeps it for the tab, and says what it does not permit", async () => {
  const guarded = await startServer({ flags: ["--auth", "required"] });
  try {
    const environment = { ...process.env, INTERLOCK_DATABASE_URL: guarded.databaseUrl };
    const newKey = (role: string) => {
      const args = ["key", "create", "--label", role, "--role", role, "--namespaces", "*"];
      const output = execFileSync(process.env.INTERLOCK_BIN ?? "interlock", args, {
        env: environment,
        encoding: "utf8",
      });
      return /il_[a-z0-9]{8}_[A-Za-z0-9_-]+/.exec(output)?.[0] ?? "";
    };
    const [admin, reader] = [newKey("admin"), newKey("read")];
    const authorization = { authorization: `Bearer ${admin}` };
    await rpc(guarded.address, "JobService/SubmitJob", { jobId: "secret", kind: "film" }, authorization);
    const opened = await chromium.open(guarded.address, "#/jobs/secret");
    const { page, shows } = opened;
    await shows("This server needs an API key", "dialog.key");
    await page.type('dialog.key input[name="key"]', "il_wrong000_x");
    await click(page, "Use this key", "dialog.key");
    await page.waitForFunction(() => sessionStorage.getItem("interlock-key") === "il_wrong000_x");
    await page.waitForSelector("dialog.key[open]");
    await page.type('dialog.key input[name="key"]', reader);
    await click(page, "Use this key", "dialog.key");
    await shows("Pending", ".title");
    await click(page, "Pause");
    await shows(/does not permit this.*submit/i, ".notice");
    await page.reload();
    await shows("Pending", ".title");
    assertQuiet(opened);
  } finally {
    await guarded.stop();
  }
});

/** Something wide in each view: names and texts of the largest size, which cannot be broken at a space. */
async function fillWide(address: string): Promise<{ name: string; text: string }> {
  const [name, text] = ["x".repeat(128), "y".repeat(200)];
  const permits = [{ resource: name }];
  const stages = [{ name, queue: name, permits }];
  await rpc(address, "PermitService/AcquirePermit", { claims: permits, holder: text.slice(0, 128), ttl: "600s" });
  await rpc(address, "JobService/SubmitJob", { jobId: name, kind: name, labels: { a: text }, stages });
  await rpc(address, "JobService/SubmitJob", { jobId: "held", kind: "film", stages: [{ name, queue: "wide" }] });
  for (const queue of ["wide", name]) {
    await rpc(address, "WorkerService/LeaseStages", { workerId: name, queues: [queue] });
  }
  const operations = [{ field: name.slice(0, 60), set: text }];
  await rpc(address, "RecordService/UpdateRecord", {
    collection: name,
    recordId: name,
    allowMissing: true,
    operations,
  });
  await rpc(address, "TimelineService/CreateSession", { sessionId: name, title: text });
  const segment = { key: name, kind: "SEGMENT_KIND_TRANSCRIPT", start: "1s", speaker: name, text };
  await rpc(address, "TimelineService/AppendSegments", { sessionId: name, segments: [segment] });
  return { name, text };
}

test("no view scrolls sideways on a phone", async () => {
  const { address } = server;
  const { name, text } = await fillWide(address);
  const opened = await chromium.open(address);
  const { page, shows, go } = opened;
  await page.setViewport({ width: 360, height: 740 });
  const places: [hash: string, shown: string][] = [
    ["#/jobs", name],
    [`#/jobs/${name}?stage=${name}`, `Stage ${name}`],
    ["#/queues", "Last renewal"],
    ["#/permits", name],
    [`#/permits/${name}`, "0 callers and 1 stage"],
    ["#/records", name],
    [`#/records/${name}?record=${name}`, `Record ${name}`],
    ["#/sessions", text],
    [`#/sessions/${name}`, text],
    ["#/server", "Background loops"],
  ];
  for (const [hash, shown] of places) {
    await go(hash);
    await shows(shown);
    const widths = await page.evaluate(() => {
      const main = document.querySelector("main");
      return [document.documentElement.scrollWidth - innerWidth, (main?.scrollWidth ?? 0) - (main?.clientWidth ?? 0)];
    });
    assert.deepEqual(widths, [0, 0], hash);
  }
  assertQuiet(opened);
});
