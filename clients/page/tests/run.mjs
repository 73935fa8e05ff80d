// Bundles the tests that are named, or all of them, and runs them. Tests of the page need Chromium, at CHROMIUM_BIN or
// /usr/bin/chromium, and the server, at INTERLOCK_BIN.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

function run(...args) {
  const result = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) {
    process.exit(result.status ?? 1);
  }
}

run("generate.mjs");
run("build.mjs");
const wanted = process.argv.slice(2);
const tests = readdirSync(join(root, "tests"))
  .filter((name) => name.endsWith(".test.ts"))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
rmSync(join(root, "build"), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: tests.map((name) => `tests/${name}`),
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  target: "node20",
  jsx: "automatic",
  jsxImportSource: "preact",
  sourcemap: true,
  external: ["*/serve.mjs"],
  outdir: "build/tests",
});
process.env.INTERLOCK_BIN ||= join(root, "../../target/debug/interlock");
// One after the other: each file has a browser of its own.
const files = tests.map((name) => `build/tests/${name.replace(/ts$/, "js")}`);
run("--enable-source-maps", "--test", "--test-concurrency=1", "--test-reporter=spec", ...files);
