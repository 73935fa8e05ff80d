// Bundles the page into dist/, each file with a `.gz` beside it. Fails if all of them together exceed the limit.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Bytes of all files, compressed. */
const LIMIT = 150_000;

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

const { outputFiles } = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome109", "firefox115", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  outdir: "dist",
  write: false,
  logLevel: "warning",
});
const files = new Map(outputFiles.map(({ path, contents }) => [basename(path), Buffer.from(contents)]));
for (const name of ["index.html", "icon.svg"]) {
  files.set(name, readFileSync(join(here, "src", name)));
}

/** Writes a file unless it is the same: the build of the server, which embeds it, goes by the time of its change. */
function write(name, content) {
  const path = join(dist, name);
  if (!existsSync(path) || !readFileSync(path).equals(content)) {
    writeFileSync(path, content);
  }
}

mkdirSync(dist, { recursive: true });
let total = 0;
for (const [name, content] of [...files].sort(([one], [other]) => (one < other ? -1 : 1))) {
  const packed = gzipSync(content, { level: 9 });
  write(name, content);
  write(`${name}.gz`, packed);
  total += packed.length;
  const sizes = `${String(content.length).padStart(8)} ${String(packed.length).padStart(8)} gzipped`;
  process.stdout.write(`${name.padEnd(12)} ${sizes}\n`);
}
// The directory stays, with the file that has it in the repository: cargo watches it.
for (const name of readdirSync(dist)) {
  if (name !== ".gitignore" && !files.has(name.replace(/\.gz$/, ""))) {
    rmSync(join(dist, name), { recursive: true });
  }
}
process.stdout.write(`${"total".padEnd(12)} ${"".padStart(8)} ${String(total).padStart(8)} gzipped\n`);
if (total > LIMIT) {
  process.stderr.write(`the page has ${total} bytes gzipped, more than ${LIMIT}\n`);
  process.exit(1);
}
