// The driver of the TypeScript client: does what the runner of clients/conformance asks. Its README has the commands.
import { createInterface } from "node:readline";
import {
  type Attempt,
  Client,
  Code,
  FailureClass,
  field,
  InterlockError,
  JobState,
  type Logger,
  StageError,
  StageStopped,
  toDocument,
  Worker,
} from "../src/index.js";
import { doSession, fieldOf, watchSession } from "./driver_session.js";
import { stageOptions } from "./driver_stages.js";

// biome-ignore lint/suspicious/noExplicitAny: commands are JSON.
type Command = Record<string, any>;
type Step = [string, ...unknown[]];

function emit(event: string, values: object): void {
  process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);
}

/** The name of an error in all languages: its reason, else its status. */
function errorOf(error: unknown): string {
  if (error instanceof InterlockError) {
    return error.reason || (Code[error.code] ?? "").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  }
  return error instanceof Error ? error.name : String(error);
}

const say = (text: string) => emit("log", { text });
const log: Logger = { info: say, warn: say, error: say };

class Gate {
  open!: () => void;
  readonly opened = new Promise<void>((resolve) => {
    this.open = resolve;
  });
}

let client: Client;
const gates = new Map<string, Gate>();
const workers = new Map<string, Worker>();

function gate(name: string): Gate {
  const found = gates.get(name) ?? new Gate();
  gates.set(name, found);
  return found;
}

/** Waits until a signal is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    }
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function handle(attempt: Attempt): Promise<object | undefined> {
  const names = { stage: attempt.stageName, attempt: attempt.number };
  emit("begin", names);
  const given = (attempt.input as { steps?: Step[] | Record<string, Step[]> }).steps ?? [];
  const steps = Array.isArray(given) ? given : (given[String(attempt.number)] ?? given["*"] ?? []);
  try {
    return await runSteps(steps, attempt);
  } catch (error) {
    if (error instanceof StageStopped) {
      emit("stop", { reason: attempt.stopReason ?? "", ...names });
    }
    throw error;
  }
}

async function runSteps(steps: readonly Step[], attempt: Attempt): Promise<object | undefined> {
  let ignoresStop = false;
  for (const [name, ...values] of steps) {
    const text = String(values[0]);
    switch (name) {
      case "report":
        attempt.report(Number(values[0]));
        break;
      case "gate":
        await Promise.race(ignoresStop ? [gate(text).opened] : [gate(text).opened, aborted(attempt.signal)]);
        if (!ignoresStop) {
          attempt.check();
        }
        break;
      case "ignore_stop":
        ignoresStop = true;
        await Promise.race([gate(text).opened, aborted(attempt.signal)]);
        emit("ignored", { reason: attempt.stopReason ?? "" });
        break;
      case "fail":
        throw new StageError(FailureClass[text as keyof typeof FailureClass], String(values[1]), {
          retryAfterMs: values[2] as number | undefined,
        });
      case "block": {
        const end = performance.now() + Number(values[0]);
        while (performance.now() < end) {
          // It blocks.
        }
        break;
      }
      case "throw":
        throw new Error(text);
      case "exit":
        process.exit(9);
        break;
      case "return":
        return values[0] as object;
      case "return_bad":
        return { number: Number.NaN };
      case "dependency":
        return attempt.dependencies.get(text)?.artifacts;
      default:
        throw new Error(`unknown step ${name}`);
    }
  }
  return undefined;
}

/** Commands that go on in the background. */
async function follow(it: Command): Promise<void> {
  const watch = it.id;
  switch (it.do) {
    case "watch":
      for await (const { job, gap } of client.watch(it.job_id, { silenceMs: it.silence_ms })) {
        emit("update", { watch, version: Number(job.version), state: JobState[job.state], gap });
      }
      break;
    case "watch_records":
      for await (const { recordId, record, changed } of client.watchRecords(it.records)) {
        emit("record", { watch, record: recordId, fields: record?.fields ?? null, changed: [...changed].sort() });
      }
      break;
    case "watch_session":
      await watchSession(client, it, emit);
      break;
    case "watch_resource":
      for await (const { resource } of client.watchResource(it.resource)) {
        emit("resource", { watch, holders: resource?.holders.length ?? null });
      }
      break;
    case "watch_jobs":
      for await (const event of client.watchJobs(it.filter)) {
        const jobId = event.type === "caughtUp" ? "" : event.job.jobId;
        emit("jobs", { watch, kind: event.type.toLowerCase(), job_id: jobId });
      }
  }
}

async function hold(it: Command): Promise<void> {
  const options = { ttlMs: it.ttl_ms, waitMs: it.wait_ms };
  await client.withPermit(
    it.resource,
    async (permit) => {
      emit("held", { token: Number(permit.fencingTokens.get(it.resource)) });
      await Promise.race([gate(it.gate).opened, aborted(permit.signal)]);
      permit.check();
    },
    options,
  );
}

async function run(it: Command): Promise<void> {
  const worker = new Worker(client, it.queues, {
    workerId: it.name ?? "driver",
    concurrency: it.concurrency,
    leaseDurationMs: it.lease_ms,
    graceMs: it.grace_ms,
    handleSignals: it.signals ?? false,
  });
  workers.set(it.name ?? "driver", worker);
  await worker.run(handle).then(
    () => emit("worker", { ended: "" }),
    (error) => emit("worker", { ended: errorOf(error), message: String(error) }),
  );
}

async function perform(it: Command): Promise<unknown> {
  switch (it.do) {
    case "connect":
      client = new Client({
        address: it.address,
        namespace: it.namespace,
        apiKey: it.api_key,
        timeoutMs: it.timeout_ms ?? 20_000,
        log,
      });
      return null;
    case "open":
      gate(it.gate).open();
      return null;
    case "worker":
      void run(it);
      return null;
    case "stop_worker":
      workers.get(it.name ?? "driver")?.stop();
      return null;
    case "submit": {
      const stages = (it.stages ?? []).map(stageOptions);
      const payload = { text: "x".repeat(it.payload_bytes ?? 0) };
      const job = await client.submitJob(it.kind, { stages, payload, jobId: it.job_id, requestId: it.request_id });
      return { job_id: job.jobId, version: Number(job.version) };
    }
    case "wait_job":
      return { state: JobState[(await client.waitJob(it.job_id, { waitMs: it.wait_ms })).state] };
    case "permit":
      void hold(it).then(
        () => emit("left", { error: "" }),
        (error) => emit("left", { error: errorOf(error) }),
      );
      return null;
    case "update_record": {
      const fields = Object.entries(toDocument(it.fields)).map(([name, value]) => field(name).set(value));
      const record = await client.updateRecord(it.collection, it.record_id, fields, { allowMissing: true });
      return { version: Number(record.version) };
    }
    default: {
      const done = await doSession(client, it, errorOf);
      if (done !== undefined) {
        return done;
      }
      void follow(it).then(
        () => emit("watch_end", { watch: it.id, error: "" }),
        (error) => emit("watch_end", { watch: it.id, error: errorOf(error) }),
      );
      return null;
    }
  }
}

emit("ready", {});
for await (const line of createInterface({ input: process.stdin })) {
  const it = JSON.parse(line) as Command;
  void perform(it).then(
    (ok) => emit("result", { id: it.id, ok }),
    (error) => emit("result", { id: it.id, error: errorOf(error), message: String(error), field: fieldOf(error) }),
  );
}
process.exit(0);
