// What several test files use.
import { after, before } from "node:test";
import {
  type Attempt,
  Client,
  type ClientOptions,
  type Handler,
  type Job,
  type Logger,
  Worker,
  type WorkerOptions,
} from "../src/index.js";
import { startServer, type TestServer } from "../src/testing.js";

/** How long anything may take that a test waits for. */
export const DEADLINE_MS = 30_000;

/** A logger that keeps its lines. */
export class Lines implements Logger {
  readonly lines: string[] = [];
  readonly info = (message: string): void => void this.lines.push(`info: ${message}`);
  readonly warn = (message: string): void => void this.lines.push(`warn: ${message}`);
  readonly error = (message: string): void => void this.lines.push(`error: ${message}`);
}

/** A promise and what settles it. */
export class Deferred<T = void> {
  resolve: (value: T) => void = () => {};
  reject: (reason: unknown) => void = () => {};
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

/** A name that no other test uses. */
export function unique(prefix: string): string {
  return `${prefix}-${crypto.randomUUID()}`;
}

/** The promise, or an error once the deadline has passed. */
export async function within<T>(promise: Promise<T>, what = "a promise", ms = DEADLINE_MS): Promise<T> {
  const late = new Deferred<never>();
  const timer = setTimeout(() => late.reject(new Error(`${what} took more than ${ms} ms`)), ms);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** The job once something holds for it. */
export async function untilJob(client: Client, jobId: string, holds: (job: Job) => boolean): Promise<Job> {
  for await (const { job } of client.watch(jobId, { signal: AbortSignal.timeout(DEADLINE_MS) })) {
    if (holds(job)) {
      return job;
    }
  }
  throw new Error(`${jobId} ended before that`);
}

/** Starts a worker, runs a body, and stops the worker in good order. */
export async function working<T>(
  client: Client,
  queue: string,
  handler: Handler,
  body: (worker: Worker) => Promise<T>,
  options: WorkerOptions = {},
): Promise<T> {
  const defaults = { workerId: "w", graceMs: 0, pollWaitMs: 20_000, handleSignals: false };
  const worker = new Worker(client, [queue], { ...defaults, ...options });
  const running = worker.run(handler);
  // Reported by `within` below.
  running.catch(() => {});
  try {
    return await body(worker);
  } finally {
    worker.stop();
    await within(running, "the end of the worker");
  }
}

/** A handler that ends when its signal is aborted. */
export const untilStopped = (attempt: Attempt): Promise<never> =>
  new Promise((_, reject) => {
    attempt.signal.addEventListener("abort", () => reject(attempt.signal.reason), { once: true });
  });

/** One real server for a test file, and a client of it; both are there when the tests run. */
export function realServer(): {
  readonly server: TestServer;
  readonly client: Client;
  open(o?: ClientOptions): Client;
} {
  let server: TestServer | undefined;
  const clients: Client[] = [];
  const open = (options: ClientOptions = {}) => {
    const opened = new Client({ address: server?.address, log: null, ...options });
    clients.push(opened);
    return opened;
  };
  let client: Client | undefined;
  before(async () => {
    server = await startServer();
    client = open();
  });
  after(async () => {
    await Promise.all(clients.map((opened) => opened.close()));
    await server?.stop();
  });
  return {
    open,
    get server() {
      return server as TestServer;
    },
    get client() {
      return client as Client;
    },
  };
}
