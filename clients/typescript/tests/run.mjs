// Compiles sources and tests and runs the tests that are named, or all of them; with --build it only compiles.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

function run(program, ...args) {
  const result = spawnSync(program, args, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) {
    process.exit(result.status ?? 1);
  }
}

run(process.execPath, "generate.mjs");
rmSync(join(root, "build"), { recursive: true, force: true });
run(process.execPath, "node_modules/typescript/bin/tsc", "-p", "tsconfig.json");
const wanted = process.argv.slice(2);
if (wanted.includes("--build")) {
  process.exit(0);
}
const tests = readdirSync(join(root, "build/tests"))
  .filter((name) => name.endsWith(".test.js"))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .map((name) => join("build/tests", name));
process.env.INTERLOCK_BIN ||= join(root, "../../target/debug/interlock");
run(process.execPath, "--enable-source-maps", "--test", "--test-reporter=dot", ...tests);
