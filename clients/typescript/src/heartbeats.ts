// Renewal of leases, and cancellation of handlers that have to stop.
//
// One loop serves all leases of a worker and renews those that are due in one call. Heartbeats carry the progress, at
// most once in `NEWS_INTERVAL_MS` per lease. A lease that expires without a renewal counts as lost, because another
// worker may have it. Safety does not depend on this: the server refuses all but the newest token.
import type { Attempt } from "./attempt.js";
import type { Client } from "./client.js";
import { milliseconds } from "./documents.js";
import { textOf } from "./failures.js";
import {
  LeaseDirective,
  type LeaseRenewal,
  type LeaseStatus,
  WorkerService,
} from "./gen/interlock/v1/worker_service_pb.js";
import { Wakeup } from "./retry.js";

const NEWS_INTERVAL_MS = 200;
/** Wait after a heartbeat that failed with all its retries. */
const PAUSE_MS = 500;
/** The most renewals that one Heartbeat may carry. */
const RENEWALS = 1_000;
/** Interval of the checks for a blocked event loop, and the delay that is not reported. */
const LOOK_MS = 500;
const BLOCKED_MS = 1_000;

/** The heartbeats of one worker. */
export class Heartbeats {
  readonly #client: Client;
  readonly #attempts = new Map<string, Attempt>();
  readonly #woken = new Wakeup();
  #isStopped = false;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Starts to renew the lease. */
  add(attempt: Attempt): void {
    this.#attempts.set(attempt.lease.leaseToken, attempt);
    this.#woken.set();
  }

  /** Stops renewing the lease. */
  remove(attempt: Attempt): void {
    this.#attempts.delete(attempt.lease.leaseToken);
  }

  /** Signals that there is progress to send. */
  readonly wake = (): void => {
    this.#woken.set();
  };

  stop(): void {
    this.#isStopped = true;
    this.#woken.set();
  }

  /** Sends heartbeats until `stop`. */
  async run(): Promise<void> {
    const stopLooking = this.#lookForBlocks();
    while (!this.#isStopped) {
      const now = performance.now();
      const due = [...this.#attempts.values()].filter((attempt) => nextAt(attempt) <= now).slice(0, RENEWALS);
      if (due.length > 0) {
        await this.#renew(due);
      } else {
        const next = Math.min(...[...this.#attempts.values()].map(nextAt));
        await this.#woken.wait(Number.isFinite(next) ? next - now : undefined);
      }
    }
    stopLooking();
  }

  async #renew(attempts: readonly Attempt[]): Promise<void> {
    const renewals = attempts.map((attempt) => attempt.renewal.take());
    const sentAt = performance.now();
    const timeoutMs = Math.min(...attempts.map((attempt) => attempt.renewal.intervalMs));
    try {
      const { statuses } = await this.#client.call(WorkerService.method.heartbeat, { renewals }, { timeoutMs });
      for (const [index, attempt] of attempts.entries()) {
        const status = statuses[index];
        if (status !== undefined) {
          apply(attempt, status, sentAt);
        }
      }
    } catch (error) {
      this.#client.log.warn(`a heartbeat failed: ${textOf(error)}`);
      for (const [index, attempt] of attempts.entries()) {
        this.#missed(attempt, renewals[index]);
      }
    }
  }

  #missed(attempt: Attempt, renewal: LeaseRenewal | undefined): void {
    const now = performance.now();
    if (renewal !== undefined) {
      attempt.renewal.takeBack(renewal);
    }
    attempt.renewal.sentAt = now + PAUSE_MS;
    attempt.renewal.dueAt = now + PAUSE_MS;
    if (now >= attempt.renewal.expiresAt) {
      this.#client.log.warn(`${attempt.stageName} of ${attempt.jobId}: the lease could not be renewed`);
      attempt.stop("lost");
    }
  }

  /** Warns of handlers that block the event loop, because these stop heartbeats. Returns a function that ends it. */
  #lookForBlocks(): () => void {
    let expectedAt = performance.now() + LOOK_MS;
    const timer = setInterval(() => {
      const lateMs = performance.now() - expectedAt;
      expectedAt = performance.now() + LOOK_MS;
      if (lateMs > BLOCKED_MS && this.#attempts.size > 0) {
        const seconds = (lateMs / 1000).toFixed(1);
        this.#client.log.warn(
          `a handler blocked the event loop for ${seconds} s, and no lease can be renewed meanwhile: ` +
            "move such work to a worker thread or a child process",
        );
      }
    }, LOOK_MS);
    timer.unref();
    return () => clearInterval(timer);
  }
}

/** Time of the next renewal, on the monotonic clock. */
function nextAt({ renewal }: Attempt): number {
  return renewal.hasNews ? Math.min(renewal.dueAt, renewal.sentAt + NEWS_INTERVAL_MS) : renewal.dueAt;
}

function apply(attempt: Attempt, status: LeaseStatus, sentAt: number): void {
  const { renewal } = attempt;
  renewal.dueAt = sentAt + renewal.intervalMs;
  if (status.directive === LeaseDirective.LOST) {
    attempt.stop("lost");
    return;
  }
  renewal.expiresAt = sentAt + (status.ttl ? milliseconds(status.ttl) : 0);
  attempt.isPaused = status.directive === LeaseDirective.PAUSE;
  if (status.directive === LeaseDirective.CANCEL) {
    attempt.stop("cancelled");
  }
}
