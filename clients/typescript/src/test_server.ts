// Servers as processes of their own. No module of a package is imported, because tests without a client use this file too.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";

const LISTENING = "listening on ";
const DATA = "  data   ";
const REMOVED = " (removed at the end)";
/** The first server of a machine creates the database. */
const START_MS = 60_000;
const STOP_MS = 30_000;

/** Options of a server for tests. */
export interface TestServerOptions {
  /** HOST:PORT to listen on. Undefined: a free port of 127.0.0.1. */
  readonly address?: string | undefined;
  /** Further flags of `interlock dev`, or of `interlock serve` for `beside`. `--metrics-listen` and `--log` are set. */
  readonly flags?: readonly string[] | undefined;
  /** Path of the server's program. Undefined: INTERLOCK_BIN, else `interlock` on PATH. */
  readonly program?: string | undefined;
  /** Milliseconds until the server has to listen. Undefined: 60,000. */
  readonly startMs?: number | undefined;
}

/**
 * A server that runs as a process of its own. Its errors are written to stderr. It does not outlive this process,
 * however that ends: the server stops when its standard input closes.
 */
export class TestServer {
  /** HOST:PORT, for `new Client({ address })`. */
  readonly address: string;
  /** Directory of its own Postgres, removed at the end. Undefined: the server uses the Postgres of another one. */
  readonly dataDir: string | undefined;
  readonly #process: ChildProcess;

  /** @internal */
  constructor(process: ChildProcess, address: string, dataDir: string | undefined) {
    this.#process = process;
    this.address = address;
    this.dataDir = dataDir;
  }

  /** Id of the server's process. */
  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** URL of its Postgres, as INTERLOCK_DATABASE_URL. @throws Error if the server has no Postgres of its own. */
  get databaseUrl(): string {
    if (this.dataDir === undefined) {
      throw new Error("the server has no Postgres of its own: use the server that `startServer` returned");
    }
    return `postgresql://interlock@${encodeURIComponent(`${this.dataDir}/socket`)}:5432/interlock`;
  }

  /**
   * Starts another server on the Postgres of this one. Stop it before this one.
   *
   * @throws Error as `startServer`, or if this server has no Postgres of its own.
   */
  async beside(options: TestServerOptions = {}): Promise<TestServer> {
    return await start(["serve"], { ...process.env, INTERLOCK_DATABASE_URL: this.databaseUrl }, [LISTENING], options);
  }

  /**
   * Drains the server and waits for its end.
   *
   * @throws Error if it does not end within 30 s (it is killed then), or ends with another exit code than 0.
   */
  async stop(): Promise<void> {
    if (hasEnded(this.#process)) {
      return;
    }
    const isLate = await this.#end("SIGTERM");
    const { exitCode, signalCode } = this.#process;
    if (isLate || exitCode !== 0) {
      throw new Error(
        isLate ? `the server did not stop within ${STOP_MS} ms` : `the server ended with ${exitCode ?? signalCode}`,
      );
    }
  }

  /** Ends the server as a crash does. Its Postgres ends with it, if it has one. */
  async kill(): Promise<void> {
    if (!hasEnded(this.#process)) {
      await this.#end("SIGKILL");
    }
  }

  /** As `stop`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Waits for the end of the process. Returns whether it had to be killed. */
  async #end(signal: NodeJS.Signals): Promise<boolean> {
    let isLate = false;
    this.#process.ref();
    const exited = once(this.#process, "exit");
    const timer = setTimeout(() => {
      isLate = true;
      this.#process.kill("SIGKILL");
    }, STOP_MS);
    this.#process.kill(signal);
    await exited;
    clearTimeout(timer);
    return isLate;
  }
}

/**
 * Starts a server with a Postgres of its own, without metrics, and waits until it listens.
 *
 * @throws Error if the program is missing, ends, or does not listen within `startMs`.
 */
export async function startServer(options: TestServerOptions = {}): Promise<TestServer> {
  return await start(["dev", "--ephemeral"], process.env, [LISTENING, DATA], options);
}

/**
 * Returns an address of this machine without a listener. Its port is below those that the system assigns, so that no
 * other process takes it while a server is down.
 */
export async function freeAddress(): Promise<string> {
  let failure: unknown;
  for (let tries = 0; tries < 100; tries += 1) {
    const probe = createServer();
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    try {
      probe.listen(port, "127.0.0.1");
      await once(probe, "listening");
      probe.close();
      await once(probe, "close");
      return `127.0.0.1:${port}`;
    } catch (error) {
      failure = error;
    }
  }
  throw new Error("no port is free", { cause: failure });
}

async function start(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  starts: readonly string[],
  options: TestServerOptions,
): Promise<TestServer> {
  const program = options.program ?? (process.env.INTERLOCK_BIN || "interlock");
  const startMs = options.startMs ?? START_MS;
  const flags = ["--listen", options.address ?? "127.0.0.1:0", "--metrics-listen", "off", "--log", "error"];
  const child = spawn(program, [...command, "--until-stdin-closes", ...flags, ...(options.flags ?? [])], {
    env,
    stdio: ["pipe", "pipe", "inherit"],
  });
  // A program that is missing.
  await once(child, "spawn").catch((error: unknown) => {
    const fault = error instanceof Error && "code" in error ? error.code : error;
    throw new Error(`cannot run ${program} (${fault}): set INTERLOCK_BIN to the path of the server's program`, {
      cause: error,
    });
  });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, startMs);
  const found = await printed(child, starts);
  clearTimeout(timer);
  if (found === undefined) {
    const { exitCode, signalCode } = child;
    throw new Error(
      isLate
        ? `the server did not listen within ${startMs} ms`
        : `the server ended with ${exitCode ?? signalCode} before it listened; its errors are on stderr`,
    );
  }
  // A test that forgets to stop the server ends nevertheless, and the server with it.
  child.unref();
  (child.stdin as Socket).unref();
  (child.stdout as Socket).unref();
  const [address = "", dataDir] = found;
  return new TestServer(child, address, dataDir?.endsWith(REMOVED) ? dataDir.slice(0, -REMOVED.length) : dataDir);
}

/** The rest of the lines with these beginnings, in their order. Undefined: the process has ended before. */
async function printed(child: ChildProcess, starts: readonly string[]): Promise<string[] | undefined> {
  const found: string[] = [];
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  // Its output can stay open: processes that it started can have it too.
  const ended = once(child, "exit").then(() => lines.close());
  for await (const line of lines) {
    const next = starts[found.length] ?? "";
    if (line.startsWith(next)) {
      found.push(line.slice(next.length));
    }
    if (found.length === starts.length) {
      child.stdout?.resume();
      return found;
    }
  }
  await ended;
  return undefined;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
