// What needs no server: documents, durations, failures, addresses, options.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { resolveAccess } from "../src/access.js";
import { parseAddresses } from "../src/address.js";
import { cut, milliseconds, toDuration } from "../src/documents.js";
import { failureOf } from "../src/failures.js";
import {
  Backoff,
  Client,
  expectOk,
  FailureClass,
  failureOfResponse,
  jobSubmission,
  RateLimited,
  ServerError,
  StageError,
  toDocument,
  Worker,
} from "../src/index.js";
import { pages } from "../src/pages.js";
import { permitClaims } from "../src/permits.js";
import { newPolicy } from "../src/resources.js";
import { freeAddress } from "../src/testing.js";
import { Lines } from "./support.js";

test("a document is what JSON.stringify makes of an object", () => {
  const when = new Date(0);
  const document = { when, left: undefined, big: 9_007_199_254_740_992n, list: [1, "x", null, true], deep: { a: {} } };
  assert.deepEqual(toDocument(document), {
    when: "1970-01-01T00:00:00.000Z",
    big: 9_007_199_254_740_992,
    list: [1, "x", null, true],
    deep: { a: {} },
  });
});

for (const [value, message] of [
  [{ a: [{ b: Number.NaN }] }, /^a\[0\]\.b: JSON has no NaN$/],
  [{ a: [undefined] }, /^a\[0\]: undefined cannot be part/],
  [{ a: new Map() }, /^a: an object of class Map cannot be part of a document/],
  [{ a: Symbol("x") }, /^a: a symbol cannot/],
  [{ a: 9_007_199_254_740_993n }, /^a: 9007199254740993 is a whole number that no double holds/],
  [{ a: "x\0" }, /^a: a NUL character is not allowed/],
  [{ "a\n": "\ud800" }, /^a\\n: the text has half of a surrogate pair/],
  [[1], /^a document is an object, not an array$/],
  [new Date(0), /^a document is an object/],
] as const) {
  test(`a document is refused with its place: ${message}`, () => {
    assert.throws(() => toDocument(value), { name: "TypeError", message });
  });
}

test("documents are bounded in depth and size", () => {
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  assert.throws(() => toDocument(circle), /nested more than 32 levels deep, or in a circle/);
  assert.throws(() => toDocument({ a: "x".repeat(100) }, 64), /^TypeError: a: the document has more than 64 bytes/);
});

test("durations keep nanoseconds and refuse what is no number", () => {
  assert.equal(milliseconds(toDuration(1_500.25, "x")), 1_500.25);
  assert.deepEqual([toDuration(-1, "x").seconds, toDuration(-1, "x").nanos], [0n, -1_000_000]);
  assert.throws(() => toDuration(Number.POSITIVE_INFINITY, "ttlMs"), /ttlMs is a number of milliseconds, not Infinity/);
});

test("texts are cut between characters", () => {
  assert.equal(cut("aé€𝄞", 6), "aé€");
  assert.equal(cut("aé€𝄞", 5), "aé");
  assert.equal(cut("a\0b", 10), "ab");
});

test("an HTTP response becomes the failure that its status means", () => {
  const failure = (status: number, headers: Record<string, string> = {}) =>
    failureOfResponse(new Response("", { status, statusText: "Text", headers }));
  const limited = failure(429, { "Retry-After": "7" });
  assert.ok(limited instanceof RateLimited);
  assert.deepEqual([limited.retryAfterMs, limited.code, limited.message], [7_000, "429", "HTTP 429 Text"]);
  const busy = failure(503, { "Retry-After": new Date(Date.now() + 60_000).toUTCString() });
  assert.ok(busy instanceof ServerError);
  assert.ok((busy.retryAfterMs ?? 0) > 55_000 && (busy.retryAfterMs ?? 0) <= 60_000);
  assert.equal(failure(404).failureClass, FailureClass.CLIENT_ERROR);
  assert.equal(failure(408).failureClass, FailureClass.TIMEOUT);
  assert.equal(failure(500, { "Retry-After": "soon" }).retryAfterMs, undefined);
  const ok = new Response("");
  assert.equal(expectOk(ok), ok);
  assert.throws(() => expectOk(new Response("", { status: 400 })), StageError);
  const elsewhere = { ok: false, status: 400, statusText: "", url: "https://v/x?key=secret", headers: new Headers() };
  assert.equal(failureOfResponse(elsewhere).message, "HTTP 400 from https://v/x");
});

test("what Node and fetch throw has the class of what happened", async () => {
  const refused = await fetch(`http://${await freeAddress()}`).catch((error: unknown) => error);
  assert.equal(failureOf(refused).failureClass, FailureClass.NETWORK);
  const timeout = new DOMException("The operation timed out", "TimeoutError");
  assert.equal(failureOf(timeout).failureClass, FailureClass.TIMEOUT);
  assert.equal(failureOf(new Error("x", { cause: timeout })).failureClass, FailureClass.TIMEOUT);
  const bug = failureOf(new TypeError("no such thing"));
  assert.deepEqual([bug.failureClass, bug.code], [FailureClass.INTERNAL, "TypeError"]);
  assert.match(String(bug.details?.traceback), /^TypeError: no such thing\n {4}at /);
  assert.equal(failureOf("a text").message, "string: a text");
});

test("what the server would refuse of a failure is left out, and the message says so", () => {
  const error = new StageError(99 as FailureClass, "m".repeat(5_000), {
    retryAfterMs: -5,
    code: "a\nb".repeat(100),
    details: { a: Number.NaN },
  });
  const failure = failureOf(error);
  assert.equal(failure.failureClass, FailureClass.INTERNAL);
  assert.ok(new TextEncoder().encode(failure.message).length <= 4_096);
  assert.match(
    failure.message,
    /failureClass was 99.*retryAfterMs was -5 and became 0; details were left out: a: JSON/,
  );
  assert.equal(failure.code.length, 128);
  assert.ok(!failure.code.includes("\n"));
});

test("an address that can never work is an error that says what to write", () => {
  const target = (text: string) => parseAddresses(text).map((address) => address.target);
  assert.deepEqual(target("https://interlock.example/"), ["interlock.example:443"]);
  assert.deepEqual(target("http://[::1]:50051"), ["[::1]:50051"]);
  assert.deepEqual(target("ipv4:10.0.0.1:1,10.0.0.2:2"), ["10.0.0.1:1", "10.0.0.2:2"]);
  for (const [text, message] of [
    ["localhost", /has no port: write "localhost:50051"/],
    [":50051", /has no host: write "127\.0\.0\.1:50051"/],
    ["::1", /is an IPv6 address without a port: write "\[::1\]:50051"/],
    ["http://fe80::1:50051x", /is an IPv6 address without brackets|has no port/],
    ["grpc://host:1", /begins with grpc:\/\/, which is no kind of address: write http:\/\/host:1/],
    ["http://host:1/path", /has a character that no host has/],
    ["host:99999", /has no port from 1 to 65535/],
  ] as const) {
    assert.throws(() => parseAddresses(text), { name: "RangeError", message });
  }
});

test("access comes from options, else from the environment, and is checked", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "interlock-access-"));
  t.after(() => rm(folder, { recursive: true }));
  const ca = join(folder, "ca.pem");
  await writeFile(ca, "-----BEGIN CERTIFICATE-----\n");
  const variables = { INTERLOCK_SERVER: "https://a:1", INTERLOCK_API_KEY: "il_x", INTERLOCK_CA: ca };
  Object.assign(process.env, variables);
  t.after(() => {
    for (const name of Object.keys(variables)) {
      delete process.env[name];
    }
  });
  const lines = new Lines();
  const access = resolveAccess({}, lines);
  assert.deepEqual([access.addresses[0]?.target, access.authorization], ["a:1", "Bearer il_x"]);
  assert.ok(access.tls?.ca);
  delete process.env.INTERLOCK_CA;
  resolveAccess({ address: "http://a:1" }, lines);
  assert.match(lines.lines.join(), /^warn: the API key is sent unencrypted to http:\/\/a:1/);
  for (const [options, message] of [
    [{ address: "http://a:1", ca }, /ca \(INTERLOCK_CA\) needs an address that begins with https/],
    [{ certificate: ca }, /privateKey \(INTERLOCK_CERT_KEY\) is missing/],
    [{ ca: new TextEncoder().encode("x") }, /ca holds no certificate in PEM/],
    [{ apiKey: "a b" }, /apiKey \(INTERLOCK_API_KEY\) is empty or has a character/],
    [{ address: ["https://a:1", "http://a:1"] }, /https:\/\/ beside other kinds/],
    [{ address: [] }, /address is an empty list/],
  ] as const) {
    assert.throws(() => resolveAccess(options, lines), { name: "RangeError", message });
  }
});

test("a text where a list of texts is wanted is a TypeError", () => {
  const client = new Client({ address: "127.0.0.1:1", log: null });
  const queues = "voice" as unknown as string[];
  assert.throws(() => new Worker(client, queues), /queues is a list of texts: write \["voice"\]/);
  assert.throws(() => new Worker(client, ["q"], { concurrency: 0 }), /concurrency is a whole number from 1 to 1,000/);
  assert.throws(() => jobSubmission("k", { stages: [{ name: "a", dependsOn: queues }] }), /dependsOn is a list/);
});

test("claims are names, pairs and objects, one or several", () => {
  const shapes = (claims: Parameters<typeof permitClaims>[0]) =>
    permitClaims(claims).map(({ resource, amount }) => [resource, amount]);
  assert.deepEqual(shapes("a"), [["a", 1n]]);
  assert.deepEqual(shapes(["a", 2]), [["a", 2n]]);
  assert.deepEqual(shapes(["a", "b"]), [
    ["a", 1n],
    ["b", 1n],
  ]);
  assert.deepEqual(shapes(["a", ["b", 3], { resource: "c", amount: 4 }]), [
    ["a", 1n],
    ["b", 3n],
    ["c", 4n],
  ]);
  assert.throws(() => permitClaims([["a", 1.5]]), /the amount of "a" is a whole number/);
  assert.equal(newPolicy({ rates: [] }), undefined);
  assert.equal(newPolicy({ capacity: 0 })?.capacity, 0n);
});

test("waits between retries are random, bounded, and on top of what the server asks for", () => {
  const backoff = new Backoff({ firstMs: 100, longestMs: 1_000 });
  for (let retry = 0; retry < 40; retry += 1) {
    const wait = backoff.waitMs(retry, 500);
    assert.ok(wait >= 500 && wait <= 500 + Math.min(1_000, 100 * 2 ** retry));
  }
});

test("pages are read by the tokens of the pages before, and only as far as they are consumed", async () => {
  const read: string[] = [];
  const next: Record<string, string> = { "": "b", b: "c", c: "" };
  const page = async (token: string) => {
    read.push(token);
    return { token, nextPageToken: next[token] ?? "" };
  };
  for await (const { token } of pages(page)) {
    assert.equal(token, read.at(-1));
  }
  assert.deepEqual(read.splice(0), ["", "b", "c"]);
  for await (const { token } of pages(page)) {
    if (token === "b") {
      break;
    }
  }
  assert.deepEqual(read, ["", "b"]);
});
