// Generates the stubs of `interlock.v1` from the protos into src/gen. The files are never committed. Nothing is written
// while all of them are newer than the protos and the generator; `--force` writes them in any case.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const protos = join(here, "../../proto");
const output = join(here, "src/gen");
const require = createRequire(import.meta.url);

/** The path of a program that an npm package brings. */
function program(packageName, path) {
  return join(dirname(require.resolve(`${packageName}/package.json`)), path);
}

/** All files below a folder; none if it does not exist. */
function filesBelow(folder) {
  if (!existsSync(folder)) {
    return [];
  }
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

function isFresh() {
  const changed = (path) => statSync(path).mtimeMs;
  const sources = [...filesBelow(join(protos, "interlock")), ...filesBelow(join(protos, "google"))];
  const generated = filesBelow(output);
  const newest = Math.max(
    ...[...sources, fileURLToPath(import.meta.url), join(here, "package-lock.json")].map(changed),
  );
  return generated.length === sources.length && Math.min(...generated.map(changed)) > newest;
}

if (process.argv.includes("--force") || !isFresh()) {
  rmSync(output, { recursive: true, force: true });
  const template = {
    version: "v2",
    plugins: [
      {
        local: [process.execPath, program("@bufbuild/protoc-gen-es", "bin/protoc-gen-es")],
        out: output,
        opt: ["target=ts", "import_extension=js"],
      },
    ],
  };
  const buf = program("@bufbuild/buf", "bin/buf");
  const result = spawnSync(process.execPath, [buf, "generate", protos, "--template", JSON.stringify(template)], {
    stdio: "inherit",
  });
  process.exitCode = result.status ?? 1;
}
