// Leases stages and runs a handler on each: heartbeats in the background, outcomes reported, nothing left leased.
import { create } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { Attempt, type Outcome } from "./attempt.js";
import type { Client } from "./client.js";
import { LONGEST_WAIT_MS, WAIT_MARGIN_MS } from "./connection.js";
import { type JsonObject, optionalDuration, toDuration, waitMs } from "./documents.js";
import { type Ended, endRequest, reportEnd } from "./ending.js";
import { Conflict, DeadlineExceeded, InterlockError, Internal, ResourceExhausted, Unavailable } from "./errors.js";
import { textOf } from "./failures.js";
import {
  type Lease,
  type LeaseStagesRequest,
  LeaseStagesRequestSchema,
  WorkerService,
} from "./gen/interlock/v1/worker_service_pb.js";
import { Heartbeats } from "./heartbeats.js";
import { hostAndProcess, onShutdownSignals } from "./node.js";
import { sleep, Wakeup } from "./retry.js";
import { names } from "./stages.js";

const rpc = WorkerService.method;
/** What a worker survives. Anything else means that it can never get work, such as a namespace that does not exist. */
const PASSING = [Unavailable, ResourceExhausted, Conflict, DeadlineExceeded, Internal];
/** The most stages that one LeaseStages may ask for. */
const LEASES = 100;
const PAUSE_MS = 1_000;
/** How long a worker that stops asks for what its last request was granted, and gives it back. */
const GIVE_BACK_MS = 5_000;
/** How long handlers that were told to stop, and their reports, get at a shutdown. */
const LAST_MS = 10_000;

/**
 * Works on one stage: returns its artifacts or a `Completion`, and fails the attempt by throwing. `StageError` says the
 * class of the failure; timeouts and connection errors of Node and `fetch` are TIMEOUT and NETWORK; anything else counts
 * as a bug of the worker. It must not block the event loop, and should end soon once `attempt.signal` is aborted.
 */
export type Handler<Input = JsonObject, Payload = JsonObject> = (
  attempt: Attempt<Input, Payload>,
  // biome-ignore lint/suspicious/noConfusingVoidType: a handler without a return value is a handler.
) => Promise<Outcome | void> | Outcome | void;

/** How a worker works. */
export interface WorkerOptions {
  /** For people and for the history, 1 to 128 bytes. Undefined: host and process id. */
  readonly workerId?: string | undefined;
  /** How many stages to work on at once, 1 to 1,000. Undefined: 1. */
  readonly concurrency?: number | undefined;
  /** How long a stage stays leased without a sign of life, 1 s to 24 h. Undefined: 90 s. */
  readonly leaseDurationMs?: number | undefined;
  /** How long the server holds a request for work; more than 50 s are 50 s. Undefined: 30 s. */
  readonly pollWaitMs?: number | undefined;
  /** How long handlers get to end at a shutdown before their stages are given back. Undefined: 10 s. */
  readonly graceMs?: number | undefined;
  /** Whether SIGTERM and SIGINT stop the worker, in place of ending the process. Undefined: true. */
  readonly handleSignals?: boolean | undefined;
}

/** Takes stages from queues and has a handler work on them. */
export class Worker {
  readonly client: Client;
  readonly queues: readonly string[];
  readonly workerId: string;
  readonly concurrency: number;
  readonly #leaseDuration: Duration | undefined;
  readonly #pollWaitMs: number;
  readonly #graceMs: number;
  readonly #handleSignals: boolean;
  readonly #heartbeats: Heartbeats;
  readonly #running = new Set<Attempt>();
  readonly #changed = new Wakeup();
  readonly #stopping = new AbortController();
  /** For work, until its leases are being worked on. With the same request id it is safe to repeat. */
  #request: LeaseStagesRequest | undefined;

  /**
   * @param queues where to take stages from, at most 100. Undefined: `default`.
   * @throws TypeError if `queues` is one text.
   * @throws RangeError if an option is out of range.
   */
  constructor(client: Client, queues: readonly string[] = ["default"], options: WorkerOptions = {}) {
    this.client = client;
    this.queues = names(queues, "queues") ?? [];
    this.workerId = options.workerId ?? hostAndProcess();
    this.concurrency = options.concurrency ?? 1;
    if (!Number.isInteger(this.concurrency) || this.concurrency < 1 || this.concurrency > 1_000) {
      throw new RangeError(`concurrency is a whole number from 1 to 1,000, not ${String(this.concurrency)}`);
    }
    this.#leaseDuration = optionalDuration(options.leaseDurationMs, "leaseDurationMs");
    this.#pollWaitMs = Math.min(waitMs(options.pollWaitMs ?? 30_000, "pollWaitMs"), LONGEST_WAIT_MS);
    this.#graceMs = waitMs(options.graceMs ?? 10_000, "graceMs");
    this.#handleSignals = options.handleSignals ?? true;
    this.#heartbeats = new Heartbeats(client);
  }

  /** Begins the shutdown: no more work is taken. A second call does not wait for the handlers any longer. */
  readonly stop = (): void => {
    if (this.#stopping.signal.aborted) {
      this.#stopHandlers();
    }
    this.#stopping.abort();
    this.#changed.set();
  };

  /**
   * Works until `stop`, or SIGTERM or SIGINT. Then handlers have `graceMs` to end, and the stages of the others are given
   * back. Nothing stays leased, not even what a request for work was granted whose response was lost.
   *
   * @throws InterlockError if no work can ever be had, such as NotFound for a namespace that does not exist.
   */
  async run<Input = JsonObject, Payload = JsonObject>(handler: Handler<Input, Payload>): Promise<void> {
    if (typeof handler !== "function") {
      throw new TypeError("the handler is a function that takes an attempt");
    }
    const { log } = this.client;
    const unhandle = this.#handleSignals ? onShutdownSignals(this.stop) : () => {};
    const renewing = this.#heartbeats.run();
    log.info(`worker ${this.workerId} takes stages of ${this.queues.join(", ")}`);
    try {
      try {
        await this.#takeWork(handler as unknown as Handler);
      } finally {
        await this.#drain();
      }
    } finally {
      this.#heartbeats.stop();
      await renewing;
      unhandle();
      log.info(`worker ${this.workerId} has stopped`);
    }
  }

  async #takeWork(handler: Handler): Promise<void> {
    try {
      while (!this.#stopping.signal.aborted) {
        // What may kill this process is to take no more stages along than it has to.
        const isAlone = [...this.#running].some((attempt) => attempt.lease.isolated);
        if (isAlone || this.#running.size >= this.concurrency) {
          await this.#changed.wait();
          continue;
        }
        const leases = await this.#lease(this.concurrency - this.#running.size);
        // The response is as old as its way here, which is short beside any lease.
        const leasedAt = performance.now();
        for (const lease of leases ?? []) {
          void this.#work(handler, new Attempt(lease, leasedAt, this.#heartbeats.wake));
        }
        if (leases !== undefined) {
          this.#request = undefined;
        }
      }
    } finally {
      await this.#giveBack();
    }
  }

  /** What the server leases to us. Undefined: it could not be asked, its response was lost, or the worker stops. */
  async #lease(count: number): Promise<Lease[] | undefined> {
    this.#request ??= create(LeaseStagesRequestSchema, {
      workerId: this.workerId,
      queues: [...this.queues],
      maxStages: Math.min(count, LEASES),
      wait: toDuration(this.#pollWaitMs, "pollWaitMs"),
      leaseDuration: this.#leaseDuration,
      requestId: crypto.randomUUID(),
    });
    const { signal } = this.#stopping;
    try {
      const timeoutMs = this.#pollWaitMs + WAIT_MARGIN_MS;
      return (await this.client.call(rpc.leaseStages, this.#request, { timeoutMs, signal })).leases;
    } catch (error) {
      if (signal.aborted) {
        return undefined;
      }
      if (!PASSING.some((kind) => error instanceof kind)) {
        // Nothing was granted that could be given back.
        this.#request = undefined;
        throw error;
      }
      this.client.log.warn(`no work could be asked for: ${textOf(error)}`);
      await sleep(PAUSE_MS, signal).catch(() => {});
      return undefined;
    }
  }

  /** Releases what the last request was granted, if its response was not received. */
  async #giveBack(): Promise<void> {
    if (this.#request === undefined) {
      return;
    }
    // A repeat without a wait returns the leases of the request, and ends the request if it still waits.
    const repeated = { ...this.#request, wait: undefined };
    this.#request = undefined;
    const options = { timeoutMs: GIVE_BACK_MS };
    try {
      const { leases } = await this.client.call(rpc.leaseStages, repeated, options);
      await Promise.all(
        leases.map(({ leaseToken }) => {
          const target = { target: { case: "leaseToken", value: leaseToken } } as const;
          return this.client.call(rpc.releaseStage, { target }, options);
        }),
      );
    } catch (error) {
      if (!(error instanceof InterlockError)) {
        throw error;
      }
      this.client.log.warn(`leases of the last request for work may be left to expire: ${textOf(error)}`);
    }
  }

  async #work(handler: Handler, attempt: Attempt): Promise<void> {
    this.#running.add(attempt);
    this.#heartbeats.add(attempt);
    try {
      const ended = await handled(handler, attempt);
      attempt.isReportingEnd = true;
      const request = endRequest(attempt, ended, this.client.log);
      if (request === undefined) {
        this.client.log.warn(`${attempt.stageName} of ${attempt.jobId} stopped: the lease is lost`);
      } else {
        await reportEnd(this.client, attempt, request);
      }
    } catch (error) {
      this.client.log.error(`${attempt.stageName} of ${attempt.jobId}: its end was not reported: ${textOf(error)}`);
    } finally {
      this.#heartbeats.remove(attempt);
      this.#running.delete(attempt);
      this.#changed.set();
    }
  }

  async #drain(): Promise<void> {
    await this.#ended(this.#graceMs);
    if (this.#running.size > 0) {
      this.#stopHandlers();
      await this.#ended(LAST_MS);
    }
    // Without a server, or with a handler that ignores its signal. The leases expire.
    for (const attempt of this.#running) {
      this.client.log.error(`${attempt.stageName} of ${attempt.jobId} did not end in time`);
    }
  }

  /** Waits until no handler runs, or for `ms` milliseconds. */
  async #ended(ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    while (this.#running.size > 0 && performance.now() < deadline) {
      await this.#changed.wait(deadline - performance.now());
    }
  }

  #stopHandlers(): void {
    for (const attempt of this.#running) {
      attempt.stop("shutdown");
    }
  }
}

/** What the handler returns or throws. */
async function handled(handler: Handler, attempt: Attempt): Promise<Ended> {
  try {
    return { returned: (await handler(attempt)) ?? undefined };
  } catch (thrown) {
    return { thrown };
  }
}
