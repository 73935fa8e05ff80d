// What the client costs beside bare stubs: rate, and CPU of this process. Not part of the package.
//
//     node --expose-gc build/tests/bench.js [PAIRS] [HOST:PORT]
//
// Without an address it starts a server of its own: INTERLOCK_BIN, else `interlock` on PATH. Both sides run in turn in
// pairs, so that what else the machine does meets both; the result is the median of each side and the ratio of the medians.
import { create } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client, Worker } from "../src/index.js";
import { startServer } from "../src/testing.js";
import { AdminService, LeaseRenewalSchema, WorkerService } from "../src/v1.js";

/** Calls and stages in flight at a time. */
const PARALLEL = 16;
/** Calls of a round; stages of a round that end at once, and that take a while. */
const CALLS = 4_000;
const SHORT = 800;
const LONG = 200;
/** Lease of the long stages, and the time that each takes: two heartbeats. */
const LEASE_MS = 1_000;
const TIME_MS = 800;

/** What one round of one side used. */
interface Round {
  readonly rate: number;
  readonly cpu: number;
}

/** Measures a round of a number of units. */
function clock(units: number): () => Round {
  globalThis.gc?.();
  const began = performance.now();
  const used = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(used);
    return { rate: (units / (performance.now() - began)) * 1000, cpu: (user + system) / units };
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

function show(name: string, unit: string, bare: readonly Round[], ours: readonly Round[]): void {
  const of = (rounds: readonly Round[]) => ({
    rate: median(rounds.map(({ rate }) => rate)),
    cpu: median(rounds.map(({ cpu }) => cpu)),
  });
  const [stubs, client] = [of(bare), of(ours)];
  const line = (side: string, { rate, cpu }: Round) =>
    `${name.padEnd(16)} ${side.padEnd(11)} ${rate.toFixed(0).padStart(8)} ${unit}s/s ${cpu.toFixed(0).padStart(7)} us of CPU per ${unit}\n`;
  const ratios = `rate ${(client.rate / stubs.rate).toFixed(2)}, CPU ${(client.cpu / stubs.cpu).toFixed(2)}`;
  process.stdout.write(line("bare stubs", stubs) + line("client", client));
  process.stdout.write(`${name.padEnd(16)} client / bare stubs: ${ratios}\n\n`);
}

/** As many at a time as `PARALLEL`. */
async function parallel(loop: (number: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: PARALLEL }, (_, number) => loop(number)));
}

/** Unary calls. */
async function calls(call: () => Promise<unknown>): Promise<Round> {
  const end = clock(CALLS);
  await parallel(async () => {
    for (let round = 0; round < CALLS / PARALLEL; round += 1) {
      await call();
    }
  });
  return end();
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Submits stages to a queue of their own, has them done, and checks that each was done once. */
async function stages(client: Client, count: number, work: (queue: string) => Promise<void>): Promise<Round> {
  const queue = `q-${crypto.randomUUID()}`;
  const specs = Array.from({ length: count }, (_, number) => ({ name: `s${number}`, queue }));
  const { jobId } = await client.submitJob("bench", { stages: specs });
  const end = clock(count);
  await work(queue);
  const result = end();
  const job = await client.waitJob(jobId, { waitMs: 30_000 });
  if (job.stageCounts?.succeeded !== count || job.stages.some(({ attempt }) => attempt !== 1)) {
    throw new Error("a stage was not done, or leased twice");
  }
  return result;
}

/** The loop of a worker on bare stubs: so many loops that lease one stage each, renew and complete it. */
async function byHand(transport: Transport, queue: string, count: number, timeMs: number): Promise<void> {
  const stub = createClient(WorkerService, transport);
  let left = count;
  await parallel(async (number) => {
    while (left > 0) {
      left -= 1;
      const { leases } = await stub.leaseStages({
        workerId: `hand-${number}`,
        queues: [queue],
        maxStages: 1,
        wait: { seconds: 10n },
        leaseDuration: timeMs > 0 ? { seconds: BigInt(LEASE_MS / 1000) } : undefined,
        requestId: crypto.randomUUID(),
      });
      const [lease] = leases;
      if (lease === undefined) {
        throw new Error("there was no stage");
      }
      const intervalMs = Number(lease.heartbeatInterval?.seconds) * 1000 + Number(lease.heartbeatInterval?.nanos) / 1e6;
      const renewal = create(LeaseRenewalSchema, { leaseToken: lease.leaseToken });
      const renewing = setInterval(() => void stub.heartbeat({ renewals: [renewal] }), intervalMs);
      if (timeMs > 0) {
        await sleep(timeMs);
      }
      clearInterval(renewing);
      const target = { target: { case: "leaseToken", value: lease.leaseToken } } as const;
      await stub.completeStage({ target, requestId: crypto.randomUUID() });
    }
  });
}

/** The worker of the client, with as many stages in flight. */
async function byWorker(client: Client, queue: string, count: number, timeMs: number): Promise<void> {
  const leaseDurationMs = timeMs > 0 ? LEASE_MS : undefined;
  const options = { concurrency: PARALLEL, leaseDurationMs, pollWaitMs: 10_000, handleSignals: false };
  const worker = new Worker(client, [queue], options);
  let left = count;
  await worker.run(async () => {
    if (timeMs > 0) {
      await sleep(timeMs);
    }
    left -= 1;
    if (left === 0) {
      worker.stop();
    }
  });
}

const [pairs = "9", given] = process.argv.slice(2);
const server = given === undefined ? await startServer() : undefined;
const address = given ?? server?.address ?? "";
// A deadline for each call, as any program sets one.
const transport = createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: 30_000 });
const stub = createClient(AdminService, transport);
const client = new Client({ address, log: null });

const sides: readonly (readonly [
  name: string,
  unit: string,
  bare: () => Promise<Round>,
  ours: () => Promise<Round>,
])[] = [
  [
    "calls",
    "call",
    () => calls(() => stub.getServerInfo({})),
    () => calls(() => client.call(AdminService.method.getServerInfo, {})),
  ],
  ...(
    [
      ["short stages", SHORT, 0],
      ["long stages", LONG, TIME_MS],
    ] as const
  ).map(
    ([name, count, timeMs]) =>
      [
        name,
        "stage",
        () => stages(client, count, (queue) => byHand(transport, queue, count, timeMs)),
        () => stages(client, count, (queue) => byWorker(client, queue, count, timeMs)),
      ] as const,
  ),
];
for (const [name, unit, bare, ours] of sides) {
  const found: readonly [Round[], Round[]] = [[], []];
  for (let pair = 0; pair <= Number(pairs); pair += 1) {
    // Who comes first changes; the first pair warms up.
    for (const side of pair % 2 === 0 ? ([1, 0] as const) : ([0, 1] as const)) {
      const result = await [bare, ours][side]?.();
      if (pair > 0 && result !== undefined) {
        found[side].push(result);
      }
    }
  }
  show(name, unit, ...found);
}
await client.close();
await server?.stop();
process.exit(0);
