// The worker: leases stages, runs a handler on each, renews the leases and reports the outcomes.
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
/** Errors that a worker retries. Any other is permanent, such as a namespace that does not exist. */
const PASSING = [Unavailable, ResourceExhausted, Conflict, DeadlineExceeded, Internal];
/** The most stages that one LeaseStages may ask for. */
const LEASES = 100;
const PAUSE_MS = 1_000;
/** Time for a stopping worker to find out the leases of its last request and give them back. */
const GIVE_BACK_MS = 5_000;
/** Time for cancelled handlers and their outcomes at a shutdown. */
const LAST_MS = 10_000;

/**
 * Works on one stage: returns its artifacts or a `Completion`, and fails the attempt by throwing. `StageError` has the
 * class of the failure; timeouts and connection errors of Node and `fetch` are TIMEOUT and NETWORK; anything else
 * counts as a bug of the worker. It must not block the event loop, and should end soon once `attempt.signal` is
 * aborted.
 */
export type Handler<Input = JsonObject, Payload = JsonObject> = (
  attempt: Attempt<Input, Payload>,
  // biome-ignore lint/suspicious/noConfusingVoidType: a handler without a return value is a handler.
) => Promise<Outcome | void> | Outcome | void;

/** Options of a worker. */
export interface WorkerOptions {
  /** Name of the worker, for people and the history, 1 to 128 bytes. Undefined: host and process id. */
  readonly workerId?: string | undefined;
  /** Most stages to work on at once, 1 to 1,000. Undefined: 1. */
  readonly concurrency?: number | undefined;
  /** Time until a lease expires without a heartbeat, 1 s to 24 h. Undefined: 90 s. */
  readonly leaseDurationMs?: number | undefined;
  /** Time that the server holds a request for work, at most 50 s; larger values become 50 s. Undefined: 30 s. */
  readonly pollWaitMs?: number | undefined;
  /** Time for handlers to end at a shutdown before their stages are given back. Undefined: 10 s. */
  readonly graceMs?: number | undefined;
  /** Whether SIGTERM and SIGINT stop the worker, in place of ending the process. Undefined: true. */
  readonly handleSignals?: boolean | undefined;
}

/** Leases stages from queues and runs a handler on each. */
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
  /** By this the server tells a worker that was restarted from a second one of the same id. */
  readonly #instanceId = crypto.randomUUID();
  readonly #running = new Set<Attempt>();
  readonly #changed = new Wakeup();
  readonly #stopping = new AbortController();
  /** The pending request for work, kept until its leases have handlers; its request id makes repeats safe. */
  #request: LeaseStagesRequest | undefined;

  /**
   * @param queues names of the queues to lease from, at most 100. Undefined: `default`.
   * @throws TypeError if `queues` is a single string.
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

  /** Starts the shutdown: no more work is leased. A second call stops waiting for the handlers. */
  readonly stop = (): void => {
    if (this.#stopping.signal.aborted) {
      this.#stopHandlers();
    }
    this.#stopping.abort();
    this.#changed.set();
  };

  /**
   * Works until `stop`, or SIGTERM or SIGINT. Then handlers have `graceMs` to end, and the stages of the others are
   * given back. No stage stays leased, even if the response with its lease was lost.
   *
   * @throws InterlockError if work can never be leased, such as NotFound for a namespace that does not exist.
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
        const time = this.#running.size > 0 ? ` and have ${this.#graceMs / 1000} s to end` : "";
        log.info(`worker ${this.workerId} takes no more stages; ${this.#running.size} are running${time}`);
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
        // A stage that may kill this process runs alone, so that it takes no other stages with it.
        const isAlone = [...this.#running].some((attempt) => attempt.lease.isolated);
        if (isAlone || this.#running.size >= this.concurrency) {
          await this.#changed.wait();
          continue;
        }
        const leases = await this.#lease(this.concurrency - this.#running.size);
        // Leases count from the response; its travel time is short compared with any lease.
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

  /** Leases of one request for work. Undefined: the request or its response was lost, or the worker stops. */
  async #lease(count: number): Promise<Lease[] | undefined> {
    this.#request ??= create(LeaseStagesRequestSchema, {
      workerId: this.workerId,
      queues: [...this.queues],
      maxStages: Math.min(count, LEASES),
      wait: toDuration(this.#pollWaitMs, "pollWaitMs"),
      leaseDuration: this.#leaseDuration,
      requestId: crypto.randomUUID(),
      instanceId: this.#instanceId,
    });
    const { signal } = this.#stopping;
    try {
      const timeoutMs = this.#pollWaitMs + WAIT_MARGIN_MS;
      const { leases, workerIdShared } = await this.client.call(rpc.leaseStages, this.#request, { timeoutMs, signal });
      if (workerIdShared) {
        this.client.log.warn(`another running worker is called ${this.workerId} too: give each its own workerId`);
      }
      return leases;
    } catch (error) {
      if (signal.aborted) {
        return undefined;
      }
      if (!PASSING.some((kind) => error instanceof kind)) {
        // The request was refused, so there are no leases to give back.
        this.#request = undefined;
        throw error;
      }
      this.client.log.warn(`no work could be asked for: ${textOf(error)}`);
      await sleep(PAUSE_MS, signal).catch(() => {});
      return undefined;
    }
  }

  /** Releases the leases of the last request if its response was not received. */
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
    // No server answers, or a handler ignores its signal. The leases expire.
    for (const attempt of this.#running) {
      this.client.log.error(`${attempt.stageName} of ${attempt.jobId} did not end in time`);
    }
  }

  /** Waits until no handler runs, at most `ms` milliseconds. */
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

/** Return value or error of the handler. */
async function handled(handler: Handler, attempt: Attempt): Promise<Ended> {
  try {
    return { returned: (await handler(attempt)) ?? undefined };
  } catch (thrown) {
    return { thrown };
  }
}
