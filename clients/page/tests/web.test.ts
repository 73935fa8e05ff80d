// connect-web and EventSource in Chromium, against the real server: HTTP/1.1 and HTTP/2 over TLS, own and other origins.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import type { Page } from "puppeteer-core";
import { freeAddress, startServer, type TestServer } from "../../typescript/src/test_server.js";
import type { Protocol, Way } from "./in_page.js";
import { browser, complete, rpc, work } from "./support.js";

const chromium = browser({ acceptInsecureCerts: true });
const PROTOCOLS: readonly Protocol[] = ["Connect, JSON", "Connect, proto", "Connect, GET", "gRPC-Web"];
const WAYS: readonly Way[] = ["Connect, JSON", "Connect, proto", "gRPC-Web", "events"];
const SUBMIT = "/interlock.v1.JobService/SubmitJob";

/** The server over HTTP/1.1, whose database the others use. */
let server: TestServer;
/** The server over TLS. */
let secure: TestServer;
/** Pages of other origins: one that the servers allow, and one that they do not. */
let allowed: { origin: string; http: Server };
let foreign: { origin: string; http: Server };
let folder: string;
let bundle = "";
let tls: string[] = [];

before(async () => {
  const { outputFiles } = await build({
    entryPoints: ["tests/in_page.ts"],
    bundle: true,
    format: "iife",
    target: "chrome109",
    write: false,
  });
  bundle = outputFiles[0]?.text ?? "";
  folder = mkdtempSync(join(tmpdir(), "interlock-web-"));
  const [key, certificate] = [join(folder, "key.pem"), join(folder, "certificate.pem")];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key];
  const subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync("openssl", ["req", "-x509", ...subject, ...curve, "-out", certificate], { stdio: "pipe" });
  tls = ["--tls-cert", certificate, "--tls-key", key];
  allowed = await serveOrigin();
  foreign = await serveOrigin();
  server = await startServer({ flags: ["--allow-origin", allowed.origin] });
  secure = await server.beside({ flags: tls });
});

after(async () => {
  await secure?.stop();
  await server?.stop();
  for (const { http } of [allowed, foreign]) {
    http.closeAllConnections();
    http.close();
  }
  rmSync(folder, { recursive: true, force: true });
});

/** An empty page of an origin of its own. */
async function serveOrigin(): Promise<{ origin: string; http: Server }> {
  const http = createServer((_, response) => {
    response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>empty</title>");
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  return { origin: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, http };
}

/** A tab at an address, with `window.calls`. */
async function at(url: string): Promise<Page> {
  const page = await chromium.newPage();
  await page.goto(url);
  await page.evaluate(bundle);
  return page;
}

let jobs = 0;
function unique(): string {
  jobs += 1;
  return `web-${jobs}`;
}

/** Calls, streams and errors by each transport of connect-web, from a page to a server. */
async function assertCalls(page: Page, base: string): Promise<void> {
  for (const protocol of PROTOCOLS) {
    const ran = await page.evaluate((...args) => window.calls.run(...args), base, protocol, unique());
    const expected = { title: "Ü <&>", kinds: ["snapshot", "change"], state: "CANCELLED" };
    assert.deepEqual(ran, expected, protocol);
    const failed = await page.evaluate((...args) => window.calls.fail(...args), base, protocol, unique());
    const reasons = Object.entries(failed).map(([name, { code, reason, fields }]) => [name, code, reason, fields]);
    const field = "stages[0].depends_on[0]";
    assert.deepEqual(
      reasons.filter(([name]) => name !== "late" && name !== "large"),
      [
        ["missing", "NotFound", "JOB_NOT_FOUND", []],
        ["invalid", "InvalidArgument", "INVALID_FIELD", [field]],
        ["stream", "NotFound", "JOB_NOT_FOUND", []],
      ],
      protocol,
    );
    assert.equal(failed.late.code, "DeadlineExceeded", `${protocol}: ${failed.late.message}`);
    assert.deepEqual([failed.large.code, failed.large.reason], ["InvalidArgument", "INVALID_FIELD"], protocol);
    assert.match(failed.large.message, /4194304/, protocol);
  }
}

test("over HTTP/1.1 a page of the server calls by each transport", async () => {
  const base = `http://${server.address}`;
  const page = await at(`${base}/`);
  await assertCalls(page, base);
  const protocols = new Set(await page.evaluate(() => window.calls.protocolsOfHttp()));
  assert.deepEqual([...protocols], ["http/1.1"]);
});

test("over TLS a page of the server calls by each transport, all by HTTP/2", async () => {
  const base = `https://${secure.address}`;
  const page = await at(`${base}/`);
  await assertCalls(page, base);
  const protocols = new Set(await page.evaluate(() => window.calls.protocolsOfHttp()));
  assert.deepEqual([...protocols], ["h2"]);
});

test("over HTTP/2 a page has more than six watches and still calls", async () => {
  const base = `https://${secure.address}`;
  const page = await at(`${base}/`);
  const jobId = unique();
  await rpc(server.address, "JobService/SubmitJob", { jobId, kind: "film" });
  assert.equal(await page.evaluate((...args) => window.calls.hold(...args), base, jobId, 20), 20);
});

test("a page of an allowed origin calls by each transport", async () => {
  const page = await at(allowed.origin);
  await assertCalls(page, `http://${server.address}`);
});

test("a page of an allowed origin can read when to repeat a call", async () => {
  const flags = ["--allow-origin", allowed.origin, "--rate-limit-read", "1/h"];
  const limited = await startServer({ flags });
  try {
    const page = await at(allowed.origin);
    for (const protocol of PROTOCOLS) {
      const base = `http://${limited.address}`;
      const refused = await page.evaluate((...args) => window.calls.flood(...args), base, protocol);
      assert.deepEqual([refused.code, refused.reason], ["ResourceExhausted", "RATE_LIMITED"], protocol);
      assert.ok((refused.retrySeconds ?? 0) > 0, protocol);
      assert.match(refused.pushback ?? "", /^-?\d+$/, protocol);
    }
  } finally {
    await limited.stop();
  }
});

test("a page of another origin neither reads nor writes", async () => {
  const base = `http://${server.address}`;
  const page = await at(foreign.origin);
  const jobId = unique();
  for (const protocol of PROTOCOLS) {
    const call = page.evaluate((...args) => window.calls.run(...args), base, protocol, jobId);
    await assert.rejects(call, /Failed to fetch/, protocol);
  }
  // It is sent without a preflight, so the server itself has to refuse it.
  const body = JSON.stringify({ jobId, kind: "film" });
  assert.equal(await page.evaluate((...args) => window.calls.sendForm(...args), base + SUBMIT, body), undefined);
  await assert.rejects(rpc(server.address, "JobService/GetJob", { jobId }), /JOB_NOT_FOUND/);
  // The same from the allowed origin is applied.
  const other = await at(allowed.origin);
  await other.evaluate((...args) => window.calls.sendForm(...args), base + SUBMIT, body);
  assert.equal((await rpc(server.address, "JobService/GetJob", { jobId })).job.jobId, jobId);
});

/** Follows a job in each way, kills and restarts the server meanwhile, and checks that no version is missing. */
async function assertResumes(from: (base: string) => string, scheme: string, flags: readonly string[]): Promise<void> {
  const address = await freeAddress();
  const base = `${scheme}://${address}`;
  let beside = await server.beside({ address, flags });
  const page = await at(from(base));
  const ids: [Way, string][] = WAYS.map((way) => [way, unique()]);
  for (const [way, jobId] of ids) {
    const stages = [{ name: "voice", queue: jobId }];
    await rpc(server.address, "JobService/SubmitJob", { jobId, kind: "film", stages });
    await page.evaluate((...args) => window.calls.follow(...args), base, way, jobId);
    await page.waitForFunction((id) => window.calls.followed(id)?.versions.length === 1, {}, jobId);
  }
  await beside.kill();
  for (const [, jobId] of ids) {
    await work(server.address, jobId, ({ leaseToken }) => complete(server.address, leaseToken));
  }
  beside = await server.beside({ address, flags });
  for (const [way, jobId] of ids) {
    await page.waitForFunction((id) => window.calls.followed(id)?.hasEnded, {}, jobId);
    const followed = await page.evaluate((id) => window.calls.followed(id), jobId);
    const versions = [
      [0, 1],
      [1, 2],
      [2, 3],
    ];
    assert.deepEqual(followed?.versions, versions, way);
    assert.ok((followed?.opened ?? 0) > 1, `${way}: it was not opened again`);
  }
  await beside.stop();
}

test("over HTTP/1.1 streams resume after a kill without a miss, from another origin", async () => {
  await assertResumes(() => allowed.origin, "http", ["--allow-origin", allowed.origin]);
});

test("over HTTP/2 streams resume after a kill without a miss", async () => {
  await assertResumes((base) => `${base}/`, "https", tls);
});
