// Sessions and their segments against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AlreadyExists,
  ExportFormat,
  field,
  InvalidArgument,
  InvalidTransition,
  NotFound,
  recordUpdate,
  type SegmentInput,
  SegmentKind,
  SegmentStatus,
  type Session,
  SessionState,
  type SessionUpdate,
  type TimelineOptions,
  Untimed,
  VersionMismatch,
} from "../src/index.js";
import { DEADLINE_MS, realServer, unique } from "./support.js";

const real = realServer();

function said(key: string, text: string, fields: Partial<SegmentInput> = {}): SegmentInput {
  return { key, kind: SegmentKind.TRANSCRIPT, text, ...fields };
}

function newSession(): Session {
  return real.client.session(unique("s"));
}

async function keys(session: Session, options: TimelineOptions = {}): Promise<string> {
  const found = [];
  for await (const segment of session.timeline(options)) {
    found.push(segment.key);
  }
  return found.join(" ");
}

test("a set of segments is stored all or none, and an error names the field", async () => {
  const session = newSession();
  const results = await session.append([
    { key: "a1", kind: SegmentKind.AUDIO, content: { uri: "s3://a/1", sizeBytes: 12, mediaType: "audio/ogg" } },
    said("t1", "Good morning", {
      parentKey: "a1",
      language: "en",
      startMs: 0,
      endMs: 1_250.5,
      words: [{ text: "Good", startMs: 0, confidence: 0.5 }, { text: "morning" }],
      metadata: { model: { name: "x" }, left: undefined },
    }),
    { key: "de1", kind: SegmentKind.TRANSLATION, parentKey: "t1", language: "de", text: "Guten Morgen" },
  ]);
  assert.deepEqual(
    results.map(({ key, applied, version }) => [key, applied, version]),
    [
      ["a1", true, 1n],
      ["t1", true, 1n],
      ["de1", true, 1n],
    ],
  );
  const stored = await session.segment("t1");
  assert.deepEqual(
    [stored.startMs, stored.endMs, stored.durationMs, stored.confidence],
    [0, 1_250.5, 1_250.5, undefined],
  );
  assert.deepEqual(stored.metadata, { model: { name: "x" } });
  assert.deepEqual(stored.words[0], { text: "Good", startMs: 0, endMs: undefined, confidence: 0.5 });
  const { content, startMs } = await session.segment("a1");
  assert.deepEqual(
    [content?.uri, content?.sizeBytes, content?.sha256, startMs],
    ["s3://a/1", 12n, undefined, undefined],
  );
  const bad = { key: "de2", kind: SegmentKind.TRANSLATION, parentKey: "nowhere", text: "gut" };
  await assert.rejects(session.append([said("t2", "fine"), bad]), (error) => {
    assert.ok(error instanceof InvalidArgument);
    assert.equal(error.violations[0]?.field, "segments[1].parent_key");
    return true;
  });
  assert.equal(await keys(session), "t1 a1 de1");
  await assert.rejects(session.append(said("t3", "x", { startMs: Number.NaN })), /segment t3: startMs/);
  await assert.rejects(session.append({ key: "a2", kind: SegmentKind.AUDIO, content: {} }), /segment a2: content/);
});

test("a FINAL is not lost by an author who never thinks of sequences", async () => {
  const session = newSession();
  for (const text of ["G", "Good", "Good morn"]) {
    assert.equal((await session.interim(said("t1", text)))[0]?.applied, true);
  }
  // A process that has started again, and a state with a number of its own beyond any clock.
  const other = real.open().session(session.sessionId);
  assert.equal((await other.interim(said("t1", "Good morning")))[0]?.applied, true);
  assert.equal((await other.interim(said("t1", "Good morning to", { sequence: 2n ** 62n })))[0]?.applied, true);
  assert.equal((await session.final(said("t1", "Good morning to all")))[0]?.applied, true);
  assert.equal((await session.interim(said("t1", "late")))[0]?.applied, false);
  assert.equal((await session.final(said("t1", "another")))[0]?.applied, false);
  const { text, status } = await session.segment("t1");
  assert.deepEqual([text, status], ["Good morning to all", SegmentStatus.FINAL]);
});

test("write stores each segment for itself, and the refused ones have typed errors", async () => {
  const session = newSession();
  const bad = said("t2", "ends before it starts", { startMs: 2_000, endMs: 1_000 });
  const results = await session.write([said("t1", "fine"), bad, said("t3", "fine too")]);
  assert.deepEqual(
    results.map(({ result }) => result?.applied),
    [true, undefined, true],
  );
  const error = results[1]?.error;
  assert.ok(error instanceof InvalidArgument);
  assert.deepEqual([error.reason, error.violations[0]?.field], ["INVALID_FIELD", "end"]);
  assert.equal(await keys(session), "t1 t3");
});

test("a timeline is read in order, page by page and by conditions", async () => {
  const session = newSession();
  await session.append([
    said("untimed", "when?"),
    said("b", "second", { startMs: 10_000, endMs: 12_000 }),
    said("a", "first", { startMs: 0, endMs: 2_000, speaker: "Ann" }),
    { key: "open", kind: SegmentKind.NOTE, startMs: 5_000 },
  ]);
  const untimed = Untimed.EXCLUDE;
  assert.equal(await keys(session), "a open b untimed");
  assert.equal(await keys(session, { startMs: 2_000, untimed }), "open b");
  assert.equal(await keys(session, { endMs: 10_000, untimed }), "a open");
  assert.equal(await keys(session, { untimed: Untimed.ONLY }), "untimed");
  assert.equal(await keys(session, { kinds: [SegmentKind.NOTE] }), "open");
  assert.equal(await keys(session, { speakers: ["Ann"] }), "a");
  const many = Array.from({ length: 1_200 }, (_, place) => said(`k${place}`, "x", { startMs: 3_600_000 }));
  for (let begin = 0; begin < many.length; begin += 400) {
    await session.append(many.slice(begin, begin + 400));
  }
  const wanted = many.map(({ key }) => key).join(" ");
  assert.equal(await keys(session, { startMs: 3_600_000, kinds: [SegmentKind.TRANSCRIPT], untimed }), wanted);
});

test("segments are searched, counted and exported", async () => {
  const session = newSession();
  const fields = { speaker: "Ann", language: "en" };
  await session.append([
    said("t1", "The meetings were moved", { ...fields, startMs: 0, endMs: 4_000 }),
    said("t2", "🎉🎉 No meeting today", { ...fields, startMs: 2_000, endMs: 5_000 }),
  ]);
  await newSession().append(said("t3", "Another meeting today"));
  const found = [];
  for await (const match of session.search("meeting -moved", { kinds: [SegmentKind.TRANSCRIPT] })) {
    found.push([match.segment.key, match.matches.map(({ start, end }) => match.snippet.slice(start, end))]);
  }
  assert.deepEqual(found, [["t2", ["meeting"]]]);
  await assert.rejects(real.client.search("meeting", { filter: "no filter" }).next(), InvalidArgument);
  const { speakers } = await session.statistics();
  assert.deepEqual([speakers[0]?.speaker, speakers[0]?.spokenMs, speakers[0]?.segmentCount], ["Ann", 5_000, 2n]);
  const parts = [];
  for await (const part of session.export(ExportFormat.TEXT)) {
    parts.push(part);
  }
  assert.equal(Buffer.concat(parts).toString(), "Ann: The meetings were moved\nAnn: 🎉🎉 No meeting today\n");
  await assert.rejects(real.client.session("nowhere").export(ExportFormat.SRT).next(), NotFound);
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(session.export(ExportFormat.SRT, { signal }).next(), /enough/);
});

test("a FINAL segment is corrected only by the version that was read, also after the end", async () => {
  const session = newSession();
  await session.append(said("t1", "Good mourning", { startMs: 1_000, endMs: 2_000, speaker: "Ann" }));
  const read = await session.segment("t1");
  await session.end();
  const corrected = await session.correct(read, { text: "Good morning", speaker: undefined, endMs: undefined });
  assert.deepEqual([corrected.text, corrected.speaker, corrected.startMs], ["Good morning", "", 1_000]);
  assert.equal(corrected.endMs, undefined);
  await assert.rejects(session.correct(read, { text: "x" }), VersionMismatch);
  await session.deleteSegment("t1");
  await assert.rejects(session.segment("t1"), { name: "NotFound", reason: "SEGMENT_NOT_FOUND" });
});

test("a session is opened, listed, ended and deleted", async () => {
  const { client } = real;
  const sessionId = unique("s");
  const given = { sessionId, title: "Standup", labels: { team: sessionId }, retentionMs: 60_000 };
  await client.openSession(given);
  const session = await client.openSession(given);
  await assert.rejects(client.createSession(given), AlreadyExists);
  const { retentionMs, labels } = await session.update({ title: "Retro" });
  assert.deepEqual([retentionMs, labels], [60_000, { team: sessionId }]);
  const titles = [];
  for await (const { title } of client.listSessions(`labels.team = "${sessionId}" AND state = OPEN`)) {
    titles.push(title);
  }
  assert.deepEqual(titles, ["Retro"]);
  const ended = await session.end();
  assert.deepEqual([ended.state, ended.endTime instanceof Date], [SessionState.ENDED, true]);
  await assert.rejects(session.append(said("t1", "too late")), (error) => {
    return error instanceof InvalidTransition && error.state === "ENDED";
  });
  await session.delete();
  await assert.rejects(session.append(said("t1", "too late")), { name: "NotFound", reason: "SESSION_NOT_FOUND" });
});

test("a commit stores a record together with what was heard", async () => {
  const { client } = real;
  const session = newSession();
  const films = unique("films");
  const edit = (n: number) => recordUpdate(films, "f", [field("n").set(n)], { allowMissing: true });
  await client.commit([edit(1), session.appending(said("t1", "heard"))]);
  await session.end();
  await assert.rejects(client.commit([edit(2), session.appending(said("t2", "heard"))]), InvalidTransition);
  assert.deepEqual((await client.getRecord(films, "f")).fields, { n: 1 });
  assert.equal(await keys(session), "t1");
});

/** An update in one line. */
function shown({ session, segments, deleted, reset }: SessionUpdate): string {
  const state = session === undefined ? ["none"] : [SessionState[session.state], session.title];
  const changed = [...segments.map(({ key, text }) => `${key}=${text}`), ...deleted.map((key) => `-${key}`)];
  return [...state, ...changed, reset ? "reset" : ""].filter((part) => part !== "").join(" ");
}

test("a watch delivers each change of a session, to its end", async () => {
  const session = newSession();
  const steps = [
    () => session.interim(said("a", "hel")),
    undefined,
    () => session.final(said("a", "hello")),
    () => session.deleteSegment("a"),
    () => session.update({ title: "T" }),
    () => session.delete(),
    () => session.append(said("b", "again")),
    undefined,
    () => session.end(),
    undefined,
  ];
  const found: string[] = [];
  let position: SessionUpdate["position"] | undefined;
  for await (const update of session.watch({ signal: AbortSignal.timeout(DEADLINE_MS) })) {
    found.push(shown(update));
    position = update.position;
    await steps[found.length - 1]?.();
  }
  const wanted = [
    "none",
    "OPEN",
    "OPEN a=hel",
    "OPEN a=hello",
    "OPEN -a",
    "OPEN T",
    "none reset",
    "OPEN",
    "OPEN b=again",
  ];
  assert.deepEqual(found, [...wanted, "ENDED"]);
  const rest = [];
  for await (const update of session.watch({ from: position, signal: AbortSignal.timeout(DEADLINE_MS) })) {
    rest.push(shown(update));
  }
  assert.deepEqual(rest, ["ENDED"]);
});

test("a watch goes on at another server when its own is killed, and delivers nothing twice", async () => {
  const steady = newSession();
  const [first, second] = [await real.server.beside(), await real.server.beside()];
  try {
    await steady.append(said("0", "0"));
    const watching = real.open({ address: [first.address, second.address] }).session(steady.sessionId);
    const found: string[] = [];
    for await (const { segments } of watching.watch({ signal: AbortSignal.timeout(DEADLINE_MS) })) {
      found.push(...segments.map(({ key }) => key));
      if (segments.length > 0 && found.length === 1) {
        await first.kill();
        await steady.append(said("1", "1"));
        await steady.append(said("2", "2"));
      } else if (segments.length > 0 && found.length === 3) {
        await steady.end();
      }
    }
    assert.deepEqual(found, ["0", "1", "2"]);
  } finally {
    await Promise.all([first.kill(), second.kill()]);
  }
});
