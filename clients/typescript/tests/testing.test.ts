// Servers for the tests of programs.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { NotFound } from "../src/index.js";
import { createNamespace, freeAddress, startServer } from "../src/testing.js";
import { DEADLINE_MS, realServer, within } from "./support.js";

const run = promisify(execFile);
const real = realServer();

function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Waits for the end of a process that is no child of this one. */
async function ended(pid: number): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (runs(pid)) {
    assert.ok(performance.now() < deadline, `process ${pid} still runs`);
    await sleep(20);
  }
}

test("a server has an address and a directory of its own, and both are gone when it was stopped", async () => {
  const server = await startServer();
  const { address, dataDir = "", pid } = server;
  assert.notEqual(address, real.server.address);
  assert.ok(existsSync(dataDir));
  await real.open({ address }).submitJob("film", { jobId: "a" });
  await server.stop();
  assert.equal(runs(pid), false);
  assert.equal(existsSync(dataDir), false);
  await server.stop();
  await server.kill();
});

test("servers on one Postgres share their jobs, at the address that was asked for", async () => {
  const address = await freeAddress();
  const { jobId } = await real.client.submitJob("film");
  const server = await real.server.beside({ address });
  assert.deepEqual([server.address, server.dataDir], [address, undefined]);
  assert.equal((await real.open({ address }).getJob(jobId)).jobId, jobId);
  await assert.rejects(server.beside(), /^Error: the server has no Postgres of its own/);
  await server.kill();
  assert.equal(runs(server.pid), false);
});

test("a namespace that was created has nothing of the others", async () => {
  const { jobId } = await real.client.submitJob("film");
  const namespace = await createNamespace(real.server);
  assert.notEqual(namespace, await createNamespace(real.server));
  await assert.rejects(real.open({ namespace }).getJob(jobId), NotFound);
});

test("a program that is missing, ends or does not listen is an error, and does not go on", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "interlock-testing-"));
  t.after(() => rm(folder, { recursive: true }));
  const program = join(folder, "interlock");
  const missing = { message: `cannot run ${program} (ENOENT): set INTERLOCK_BIN to the path of the server's program` };
  await assert.rejects(startServer({ program }), missing);
  const write = (text: string) => writeFile(program, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  await write("exit 3");
  await assert.rejects(startServer({ program }), /^Error: the server ended with 3 before it listened/);
  const noted = join(folder, "pid");
  await write(`echo $$ >${noted}; exec sleep 600`);
  await assert.rejects(within(startServer({ program, startMs: 2_000 })), {
    message: "the server did not listen within 2000 ms",
  });
  assert.equal(runs(Number(await readFile(noted))), false);
});

test("a server that ends with an error when it is stopped fails the test", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "interlock-testing-"));
  t.after(() => rm(folder, { recursive: true }));
  const program = join(folder, "interlock");
  const text = `
process.on("SIGTERM", () => process.exit(3));
setInterval(() => {}, 60_000);
console.log("listening on 127.0.0.1:1\\n  data   /none (removed at the end)");`;
  await writeFile(program, `#!/usr/bin/env node${text}`, { mode: 0o755 });
  const server = await startServer({ program });
  assert.deepEqual([server.address, server.dataDir], ["127.0.0.1:1", "/none"]);
  await assert.rejects(within(server.stop()), { message: "the server ended with 3" });
});

/** A program that starts a server, prints its process id, and does more. */
function starts(more: string): string[] {
  const module = JSON.stringify(fileURLToPath(new URL("../src/testing.js", import.meta.url)));
  const program = `const { startServer } = await import(${module}); console.log((await startServer()).pid); ${more}`;
  return ["--input-type=module", "--eval", program];
}

test("a server that was not stopped ends with the process that started it", async (t) => {
  const { stdout } = await run(process.execPath, starts(""), { timeout: DEADLINE_MS * 3 });
  const pid = Number(stdout);
  t.after(() => runs(pid) && process.kill(pid));
  await ended(pid);
});

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"] as const) {
  test(`a server ends with a process that is ended by ${signal}`, async (t) => {
    const child = spawn(process.execPath, starts("setInterval(() => {}, 60_000);"), {
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => child.kill("SIGKILL"));
    const [line] = await within(once(child.stdout, "data"));
    const pid = Number(line);
    assert.ok(runs(pid));
    t.after(() => runs(pid) && process.kill(pid, "SIGKILL"));
    child.kill(signal);
    await ended(pid);
  });
}
