// Chromium trusts the authority of `interlock dev --tls`, as docs/operations.md says, without any flag about certificates.
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import puppeteer, { type Browser } from "puppeteer-core";

const WAIT_MS = 60_000;
let folder: string;
let server: ChildProcess;
let port = "";
let authority = "";

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "interlock-trust-"));
  const flags = ["--ephemeral", "--tls", "--listen", "127.0.0.1:0", "--metrics-listen", "off", "--log", "error"];
  server = spawn(process.env.INTERLOCK_BIN || "interlock", ["dev", ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
    // Where users other than root keep the authority.
    env: { ...process.env, XDG_DATA_HOME: folder },
  });
  for await (const line of createInterface({ input: server.stdout as NodeJS.ReadableStream })) {
    port = /^listening on .*:(\d+)$/.exec(line)?.[1] ?? port;
    authority = /INTERLOCK_CA=(.*)$/.exec(line)?.[1] ?? authority;
    if (authority !== "") {
      break;
    }
  }
  server.stdout?.resume();
  assert.notEqual(authority, "", "the server ended, or its banner names no authority");
});

after(async () => {
  if (server.exitCode === null) {
    server.kill("SIGTERM");
    await once(server, "exit");
  }
  rmSync(folder, { recursive: true, force: true });
});

/** A browser with a home of its own, of which the database of certificates has the authority or is empty. */
async function launch(home: string, trusted: boolean): Promise<Browser> {
  const path = join(folder, home);
  const database = join(path, ".pki/nssdb");
  mkdirSync(database, { recursive: true });
  execFileSync("certutil", ["-N", "-d", `sql:${database}`, "--empty-password"]);
  if (trusted) {
    execFileSync("certutil", ["-A", "-d", `sql:${database}`, "-n", "interlock-dev", "-t", "C,,", "-i", authority]);
  }
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM_BIN || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    env: { ...process.env, HOME: path },
  });
}

/** Submits a job by a client that trusts the authority too. */
async function submit(jobId: string): Promise<void> {
  const path = "/interlock.v1.JobService/SubmitJob";
  const call = request({ host: "localhost", port, path, method: "POST", ca: readFileSync(authority) });
  call.setHeader("content-type", "application/json").end(JSON.stringify({ jobId, kind: "film" }));
  const [response] = await once(call, "response");
  response.resume();
  assert.equal(response.statusCode, 200);
}

test("a browser that has the authority of `dev --tls` shows the page over HTTP/2", async () => {
  const browser = await launch("trusting", true);
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(WAIT_MS);
    await page.goto(`https://localhost:${port}/`);
    await page.waitForFunction(() => document.body.innerText.includes("No job matches"));
    await submit("over-tls");
    await page.waitForFunction(() => document.body.innerText.includes("over-tls"));
    const protocols = await page.evaluate(() => {
      const entries = ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type));
      return [...new Set(entries.map((entry) => (entry as PerformanceResourceTiming).nextHopProtocol))];
    });
    assert.deepEqual(protocols, ["h2"]);
  } finally {
    await browser.close();
  }
});

test("a browser that does not have it refuses the certificate", async () => {
  const browser = await launch("strange", false);
  try {
    const page = await browser.newPage();
    await assert.rejects(page.goto(`https://localhost:${port}/`), /ERR_CERT_AUTHORITY_INVALID/);
  } finally {
    await browser.close();
  }
});
