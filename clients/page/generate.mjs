// Makes src/client: the modules of clients/typescript that the page uses, and the stubs of `interlock.v1`. They are copies,
// so that they resolve the packages of this directory, and are never committed. Nothing is written while all of them are
// newer than their sources; `--force` writes them in any case.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const protos = join(here, "../../proto");
const client = join(here, "../typescript/src");
const output = join(here, "src/client");
const require = createRequire(import.meta.url);

/** Modules of the client that the page imports; those that they import are copied too. */
const MODULES = ["stream", "errors", "retry", "job_watch", "jobs_watch", "session_watch", "record_watch", "resources"];

function program(packageName, path) {
  return join(dirname(require.resolve(`${packageName}/package.json`)), path);
}

/** All files below a directory; none if it does not exist. */
function filesBelow(directory) {
  if (!existsSync(directory)) {
    return [];
  }
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

/** The modules and those that they import, without the stubs. */
function closure() {
  const found = new Set(MODULES);
  for (const name of found) {
    const text = readFileSync(join(client, `${name}.ts`), "utf8");
    for (const [, imported] of text.matchAll(/from "\.\/([a-z_0-9]+)\.js"/g)) {
      found.add(imported);
    }
  }
  return [...found];
}

const modules = closure();
const stubSources = [...filesBelow(join(protos, "interlock")), ...filesBelow(join(protos, "google"))];
const sources = [...modules.map((name) => join(client, `${name}.ts`)), ...stubSources];

function isFresh() {
  const changed = (path) => statSync(path).mtimeMs;
  const made = filesBelow(output);
  const inputs = [...sources, fileURLToPath(import.meta.url), join(here, "package-lock.json")];
  return made.length === sources.length && Math.min(...made.map(changed)) > Math.max(...inputs.map(changed));
}

if (process.argv.includes("--force") || !isFresh()) {
  rmSync(output, { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  const template = {
    version: "v2",
    plugins: [
      {
        local: [process.execPath, program("@bufbuild/protoc-gen-es", "bin/protoc-gen-es")],
        out: join(output, "gen"),
        opt: ["target=ts", "import_extension=js"],
      },
    ],
  };
  const buf = program("@bufbuild/buf", "bin/buf");
  const result = spawnSync(process.execPath, [buf, "generate", protos, "--template", JSON.stringify(template)], {
    stdio: "inherit",
  });
  if (result.status !== 0) {
    process.exit(result.status ?? 1);
  }
  const now = new Date();
  for (const name of modules) {
    const copy = join(output, `${name}.ts`);
    copyFileSync(join(client, `${name}.ts`), copy);
    utimesSync(copy, now, now);
  }
}
