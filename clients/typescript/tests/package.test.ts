// The package as its users get it: packed, installed in an empty project, and the programs of the README compiled and run.
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { JobState } from "../src/index.js";
import { realServer, within } from "./support.js";

const run = promisify(execFile);
const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");
const COMMAND_MS = 180_000;

const real = realServer();
let project: string;
let vendor: Server | undefined;
let vendorAddress = "";
const children: ChildProcess[] = [];
/** The last thing that the vendor was asked. */
let asked = "";

before(async () => {
  project = await mkdtemp(join(tmpdir(), "interlock-client-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], options(ROOT));
  // What `prepack` prints stands before it.
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf("[\n"))) as { filename: string; files: { path: string }[] }[];
  assert.ok(packed);
  const folders = new Set(packed.files.map(({ path }) => path.split("/")[0]));
  assert.deepEqual([...folders].sort(), ["LICENSE", "README.md", "dist", "package.json"]);
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "project", private: true, type: "module" }));
  const quiet = ["--prefer-offline", "--no-audit", "--no-fund"];
  await run("npm", ["install", ...quiet, join(project, packed.filename)], options(project));
  await writePrograms();
  vendor = createServer((request, response) => {
    request.setEncoding("utf8");
    request.on("data", (text: string) => {
      asked = text;
    });
    request.on("end", () => response.end(JSON.stringify({ url: "s3://voices/1" })));
  });
  vendor.listen(0, "127.0.0.1");
  await once(vendor, "listening");
  vendorAddress = `http://127.0.0.1:${(vendor.address() as AddressInfo).port}`;
});

after(async () => {
  for (const child of children) {
    child.kill("SIGKILL");
  }
  vendor?.close();
  await rm(project, { recursive: true, force: true });
});

function options(cwd: string) {
  return { cwd, timeout: COMMAND_MS, maxBuffer: 16 << 20 };
}

/** Writes the programs of the README into the project and compiles them as strictly as it can be. */
async function writePrograms(): Promise<void> {
  const readme = await readFile(join(ROOT, "README.md"), "utf8");
  const programs = [...readme.matchAll(/^```ts\n\/\/ (\S+\.ts)\n(.*?)^```$/gms)];
  assert.equal(programs.length, 6);
  await mkdir(join(project, "src"));
  for (const [, name = "", text = ""] of programs) {
    await writeFile(join(project, "src", name), text);
  }
  const config = {
    compilerOptions: {
      target: "ES2022",
      module: "NodeNext",
      lib: ["ES2023", "ESNext.Disposable"],
      types: ["node"],
      typeRoots: [join(ROOT, "node_modules/@types")],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: true,
      rootDir: "src",
      outDir: "out",
    },
    include: ["src"],
  };
  await writeFile(join(project, "tsconfig.json"), JSON.stringify(config));
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const { stdout } = await run(process.execPath, [tsc, "-p", project], options(project)).catch((error) => error);
  assert.equal(stdout, "");
}

function start(program: string): ChildProcess {
  const environment = { INTERLOCK_SERVER: real.server.address, VENDOR: vendorAddress };
  const child = spawn(process.execPath, [join(project, "out", program)], {
    cwd: project,
    // Not as a part of this test run.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  return child;
}

/** What a program prints. Fails unless it ends well. */
async function output(program: string): Promise<string> {
  const child = start(program);
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const [code] = await within(once(child, "close"), program);
  assert.equal(code, 0);
  return text;
}

test("the worker and the job of the README do their work together, and SIGTERM ends the worker", async () => {
  const worker = start("worker.js");
  const text = await output("submit.js");
  assert.match(text, /^RUNNING 0/);
  assert.match(
    text,
    /SUCCEEDED 1 \n\[ { url: 's3:\/\/voices\/1' }, { url: 's3:\/\/voices\/1' } \]\ndone by Interlock \d/,
  );
  assert.equal(asked, '{"text":"Goodbye"}');
  const exited = once(worker, "exit");
  worker.kill("SIGTERM");
  assert.deepEqual(await within(exited), [0, null]);
});

test("the README's program that follows jobs ends with its job", async () => {
  const text = await output("follow.js");
  assert.match(text, /appeared /);
  assert.match(text, /\n\d+n 0 \S+ false\n$/);
  const states = [];
  for await (const job of real.client.listJobs()) {
    states.push(job.state);
  }
  assert.ok(states.includes(JobState.CANCELLED));
});

test("the README's program of records, permits and commits does what its comments say", async () => {
  const text = await output("edit.js");
  assert.match(
    text,
    /^signals SIGNALS\n1 HTTP 503\n2 HTTP 503\n3 HTTP 503\nPERMIT_DENIED: docs-api BREAKER_OPEN; try again in /,
  );
  assert.deepEqual((await real.client.getRecord("docs", "doc-7")).fields, { edits: 4 });
  assert.match(text, /title: 'SIGNALS' } \[ 'drafts', 'tags', 'title' \]\n$/);
});

test("the README's program of a session prints what was said, found and exported", async () => {
  const text = await output("meeting.js");
  assert.match(text, /^ann-1 Good morning\nann-1-de Guten Morgen\nAnn \[ 'morning' \]\nWEBVTT\n/);
  assert.match(text, /00:00:01\.200 --> 00:00:02\.500\n<v Ann>Good morning/);
});

test("the README's test starts a server of its own and passes", async () => {
  const text = await output("film.test.js");
  assert.match(text, /a film is made/);
  assert.match(text, /^\S+ pass 1$/m);
});
