// Streams of sessions that break, against a scripted server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, Client, Code, ExportFormat, SessionState, Unavailable } from "../src/index.js";
import { CUT, type FakeServer, HANG, refusal, withFake } from "./fake_server.js";
import { DEADLINE_MS, within } from "./support.js";

async function withClient(body: (client: Client, server: FakeServer) => Promise<void>): Promise<void> {
  await withFake(async (server) => {
    const backoff = new Backoff({ firstMs: 1, longestMs: 10 });
    await using client = new Client({ address: server.address, backoff, log: null });
    await body(client, server);
  });
}

const session = (version: bigint, created: bigint, state = SessionState.OPEN) => ({
  update: { case: "session", value: { sessionId: "s", version, state, createTime: { seconds: created } } },
});

/** Changes up to a version: segments as `key:version`. */
const changes = (previousVersion: bigint, version: bigint, ...names: readonly string[]) => {
  const segments = names.map((name) => ({ key: name[0], version: BigInt(name.slice(2)) }));
  return { update: { case: "changes", value: { previousVersion, version, segments } } };
};

test("a watch of a session delivers nothing twice, and resumes where something is missing", async () => {
  await withClient(async (client, server) => {
    const breaks = refusal(Code.Unavailable, "");
    const absent = { update: { case: "removal", value: { sessionId: "s" } } };
    server.streams.push(
      [absent, breaks],
      // Breaks in the middle of version 3.
      [absent, session(3n, 7n), changes(0n, 2n, "a:2", "b:3"), breaks],
      // Repeats b of version 3; version 5 is missing.
      [session(3n, 7n), changes(2n, 3n, "b:3", "c:3"), changes(5n, 6n, "e:6"), HANG],
      [session(6n, 7n), changes(3n, 6n, "d:4", "e:6"), breaks],
      // Another session of this id, and no word of a reset.
      [session(1n, 8n), changes(0n, 1n, "a:1"), session(2n, 8n, SessionState.ENDED), HANG],
    );
    const found: string[] = [];
    for await (const update of client.session("s").watch({ signal: AbortSignal.timeout(DEADLINE_MS) })) {
      const parts = [
        SessionState[update.session?.state ?? 0],
        ...update.segments.map(({ key, version }) => key + version),
      ];
      found.push(`${parts.join(" ")}${update.reset ? " reset" : ""} @${update.position.version}`);
    }
    assert.deepEqual(found, [
      "UNSPECIFIED @0",
      "OPEN @0",
      "OPEN a2 b3 @2",
      "OPEN c3 @3",
      "OPEN d4 e6 @6",
      "OPEN reset @0",
      "OPEN a1 @1",
      "ENDED @2",
    ]);
    const from = server
      .of("watchSession")
      .map((request) => [request.fromVersion, request.fromCreateTime?.seconds].join("@"));
    assert.deepEqual(from, ["0@", "0@", "2@7", "3@7", "6@7"]);
  });
});

test("an export is repeated while nothing came, and never after that", async () => {
  await withClient(async (client, server) => {
    const part = { data: new TextEncoder().encode("part") };
    const draining = refusal(Code.Unavailable, "DRAINING");
    server.streams.push([CUT], [draining], [part, part], [part, draining]);
    const sizes = async () => {
      const found: number[] = [];
      for await (const { length } of client.session("s").export(ExportFormat.TEXT)) {
        found.push(length);
      }
      return found;
    };
    assert.deepEqual(await within(sizes()), [4, 4]);
    await assert.rejects(within(sizes()), Unavailable);
    assert.equal(server.of("exportTimeline").length, 4);
  });
});

test("an export whose loop is left ends its call", async () => {
  await withClient(async (client, server) => {
    server.streams.push([{ data: new TextEncoder().encode("part") }, HANG]);
    for await (const part of client.session("s").export(ExportFormat.TEXT)) {
      assert.equal(part.length, 4);
      break;
    }
    await server.until(() => server.of("exportEnded").length === 1);
  });
});
