// What the views compute.
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { JobSchema, JobState } from "../src/client/gen/interlock/v1/job_pb.js";
import { Board } from "../src/logic/board.js";
import { marked } from "../src/logic/captions.js";
import { jobFilter } from "../src/logic/filter.js";
import { bytes, duration, percent, position, relative, words } from "../src/logic/format.js";
import { layout, visible } from "../src/logic/graph.js";
import { readAfter } from "../src/logic/interval.js";
import { bounded, listed } from "../src/logic/queues.js";
import { formatRoute, parseRoute } from "../src/logic/route.js";

test("texts of times and numbers", () => {
  assert.deepEqual([0, 3.25, 35, 999, 1_000, 61_000, 3_600_000, 90_061_000].map(duration), [
    "0 ms",
    "3.3 ms",
    "35 ms",
    "999 ms",
    "1 s",
    "1 min 1 s",
    "1 h",
    "1 d 1 h",
  ]);
  assert.deepEqual([relative(1_000, 2_000), relative(0, 125_000), relative(8_000, 0)], ["now", "2 min ago", "in 8 s"]);
  assert.deepEqual([position(7_400), position(3_723_000)], ["0:07", "1:02:03"]);
  assert.deepEqual([percent(0), percent(0.999), percent(1), percent(0.57)], ["0 %", "99 %", "100 %", "57 %"]);
  assert.deepEqual(
    [bytes(0), bytes(1023), bytes(1536), bytes(5n * 1024n ** 3n)],
    ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"],
  );
  assert.equal(words("STAGE_STARTED"), "Stage started");
});

test("a slow read is repeated less often", () => {
  assert.deepEqual(
    [5, 100, 140, 60_000].map((took) => readAfter(2_000, took)),
    [2_000, 2_000, 2_800, 10_000],
  );
  assert.equal(readAfter(30_000, 60_000), 30_000);
});

test("a filter quotes what users enter", () => {
  assert.equal(jobFilter({ states: [], kind: "", labels: "" }), "");
  assert.equal(jobFilter({ states: ["RUNNING"], kind: " film ", labels: "" }), 'state = RUNNING AND kind = "film"');
  assert.equal(
    jobFilter({ states: ["FAILED", "PAUSED"], kind: "", labels: 'team=a"b\\, x=1=2, none' }),
    '(state = FAILED OR state = PAUSED) AND labels.team = "a\\"b\\\\" AND labels.x = "1=2"',
  );
});

test("a route survives its hash, whatever the names are", () => {
  const path = ["permits", "a/b ?&=#%é"];
  const hash = formatRoute(path, { namespace: "acme", none: "", also: undefined, q: "a & b" });
  const { path: again, query } = parseRoute(hash);
  assert.deepEqual(again, path);
  assert.deepEqual(
    [...query],
    [
      ["namespace", "acme"],
      ["q", "a & b"],
    ],
  );
  assert.deepEqual(parseRoute("").path, ["jobs"]);
  assert.deepEqual(parseRoute("#/jobs/%E0%A4%A").path, ["jobs", "%E0%A4%A"]);
});

test("stages are in a layer behind all that they wait for", () => {
  const stages = [
    { name: "render", dependsOn: ["voice", "image"] },
    { name: "voice", dependsOn: ["script"] },
    { name: "image", dependsOn: [] },
    { name: "script", dependsOn: [] },
    { name: "lost", dependsOn: ["absent"] },
  ];
  const graph = layout(stages);
  const column = Object.fromEntries(graph.places.map((place) => [place.name, place.column]));
  assert.deepEqual(column, { render: 2, voice: 1, image: 0, script: 0, lost: 0 });
  assert.equal(graph.rows, 3);
  // A cycle, which the server refuses, ends too.
  assert.equal(
    layout([
      { name: "a", dependsOn: ["b"] },
      { name: "b", dependsOn: ["a"] },
    ]).places.length,
    2,
  );
});

test("of 10,000 stages only those in sight are drawn", () => {
  const stages = Array.from({ length: 10_000 }, (_, n) => ({
    name: `s${n}`,
    dependsOn: n < 5_000 ? [] : [`s${n - 5_000}`, `s${(n * 7) % 5_000}`],
  }));
  const started = performance.now();
  const graph = layout(stages);
  assert.ok(performance.now() - started < 1_000);
  const box = { left: 0, top: 120_000, width: 1_000, height: 600 };
  const places = visible(graph, box, { columnWidth: 216, rowHeight: 60 });
  assert.equal(places.length, 22);
  assert.ok(places.every(({ row }) => row >= 2_000 && row <= 2_010));
});

test("the board has the newest jobs first, and follows changes", () => {
  const board = new Board();
  const job = (jobId: string, at: number, state = JobState.PENDING) =>
    create(JobSchema, { jobId, state, createTime: timestampFromMs(at) });
  for (const one of [job("a", 1_000), job("b", 3_000), job("c", 2_000)]) {
    board.take({ type: "appeared", job: one });
  }
  assert.deepEqual(board.ids(""), ["b", "c", "a"]);
  board.take({ type: "changed", job: job("c", 2_000, JobState.RUNNING), change: undefined });
  assert.equal(board.counts().get(JobState.RUNNING), 1);
  board.take({ type: "removed", job: job("b", 3_000), deleted: true });
  board.take({ type: "caughtUp", jobs: 2 });
  assert.deepEqual([board.ids(""), board.ids("A"), board.isComplete], [["c", "a"], ["a"], true]);
});

test("a list by name goes past empty pages, and says whether it goes on", async () => {
  const pages = [["a"], [], ["b", "c"], ["d"]];
  const read = async (pageToken: string) => {
    const page = Number(pageToken);
    return { items: pages[page] ?? [], nextPageToken: page === 3 ? "" : String(page + 1) };
  };
  assert.deepEqual(await listed(100, 10, read), { items: ["a", "b", "c", "d"], isPartial: false });
  assert.deepEqual(await listed(2, 10, read), { items: ["a", "b", "c"], isPartial: true });
  assert.deepEqual(await listed(100, 2, read), { items: ["a"], isPartial: true });
  assert.deepEqual([bounded(9_999, false), bounded(10_000, true)], ["9,999", "10,000+"]);
});

test("matches count characters, not code units", () => {
  assert.deepEqual(marked("😀 the end", [{ start: 2, end: 5 }]), [
    { text: "😀 ", isMatch: false },
    { text: "the", isMatch: true },
    { text: " end", isMatch: false },
  ]);
});
