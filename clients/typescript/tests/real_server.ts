// Starts the real server for a test, with a database of its own, and ends it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../../../..");
const LINE = "listening on ";
const START_MS = 60_000;
const STOP_MS = 30_000;

/** The program: INTERLOCK_BIN, or what `cargo build` makes. */
export function binary(): string {
  const program = process.env.INTERLOCK_BIN || join(ROOT, "target/debug/interlock");
  if (!existsSync(program)) {
    throw new Error(`${program} is missing: cargo build, or set INTERLOCK_BIN`);
  }
  return program;
}

/** A server that runs. */
export class RealServer {
  readonly address: string;
  /** The folder of its Postgres. Undefined: it has none of its own. */
  readonly dataDir: string | undefined;
  readonly #process: ChildProcess;

  constructor(address: string, dataDir: string | undefined, process: ChildProcess) {
    this.address = address;
    this.dataDir = dataDir;
    this.#process = process;
  }

  /** For other servers over its Postgres. */
  get databaseUrl(): string {
    return `postgresql://interlock@${encodeURIComponent(`${this.dataDir}/socket`)}:5432/interlock`;
  }

  /** Ends it in good order. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** Ends it at once, as a crash does. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exited = once(this.#process, "exit", { signal: AbortSignal.timeout(STOP_MS) });
      this.#process.kill(signal);
      await exited;
    }
  }
}

/** A server with a Postgres of its own. */
export async function startServer(...args: readonly string[]): Promise<RealServer> {
  const process = start(["dev", "--ephemeral", "--listen", "127.0.0.1:0", ...args], {});
  const [address, dataDir] = await printed(process, [LINE, "  data   "]);
  return new RealServer(address ?? "", dataDir?.replace(" (removed at the end)", ""), process);
}

/** One more server over the Postgres of another. @param address undefined: any. */
export async function startBeside(
  server: RealServer,
  address = "127.0.0.1:0",
  ...args: readonly string[]
): Promise<RealServer> {
  const process = start(["serve", "--listen", address, ...args], { INTERLOCK_DATABASE_URL: server.databaseUrl });
  const [listening] = await printed(process, [LINE]);
  return new RealServer(listening ?? "", undefined, process);
}

/** An address of this machine that nothing listens on. */
export async function freeAddress(): Promise<string> {
  const probe = createServer();
  // Below the ports that the system gives away, so that nothing takes it while a server is down.
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    try {
      probe.listen(port, "127.0.0.1");
      await once(probe, "listening");
      probe.close();
      await once(probe, "close");
      return `127.0.0.1:${port}`;
    } catch {
      // It is taken.
    }
  }
}

function start(args: readonly string[], environment: NodeJS.ProcessEnv): ChildProcess {
  return spawn(binary(), [...args, "--log", "error"], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** The rest of the lines that begin like this, in this order. */
async function printed(process: ChildProcess, starts: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  const timer = setTimeout(() => process.kill("SIGKILL"), START_MS);
  const lines = createInterface({ input: process.stdout as NodeJS.ReadableStream });
  for await (const line of lines) {
    const next = starts[found.length] ?? "";
    if (line.startsWith(next)) {
      found.push(line.slice(next.length));
    }
    if (found.length === starts.length) {
      clearTimeout(timer);
      process.stdout?.resume();
      return found;
    }
  }
  throw new Error(`the server ended before it was ready: ${process.exitCode ?? process.signalCode}`);
}
