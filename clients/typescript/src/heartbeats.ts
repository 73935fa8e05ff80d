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
import { silentLogger } from "./log.js";
import { type LoopWatch, watchLoop } from "./node.js";
import { Wakeup } from "./retry.js";

const NEWS_INTERVAL_MS = 200;
/** Wait after a heartbeat that failed with all its retries. */
const PAUSE_MS = 500;
/** The most renewals that one Heartbeat may carry. */
const RENEWALS = 1_000;
/** Interval of the checks for handlers that block the event loop or do not stop, and the delays that are reported. */
const LOOK_MS = 250;
const BLOCKED_MS = 1_000;
const STOPPED_MS = 1_500;
const INSTEAD = "move such work to a worker thread or a child process";
/** Written while the loop is blocked, in the form of `stderrLogger`. */
const BLOCKED = `interlock: warning: a handler blocks the event loop, and no lease is renewed meanwhile: ${INSTEAD}`;

/** The heartbeats of one worker. */
export class Heartbeats {
  readonly #client: Client;
  readonly #attempts = new Map<string, Attempt>();
  readonly #woken = new Wakeup();
  readonly #warned = new WeakSet<Attempt>();
  #loop: LoopWatch | undefined;
  #isStopped = false;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Starts to renew the lease. */
  add(attempt: Attempt): void {
    this.#attempts.set(attempt.lease.leaseToken, attempt);
    this.#woken.set();
    // The handler may block from its first line on.
    this.#loop?.beat(true);
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

  /** Warns once of a handler that does not stop when it has to. */
  #warnIfOverdue(attempt: Attempt): void {
    const lateMs = performance.now() - (attempt.stoppedAt ?? Number.POSITIVE_INFINITY);
    if (lateMs > STOPPED_MS && !attempt.isReportingEnd && !this.#warned.has(attempt)) {
      this.#warned.add(attempt);
      const late = `${(lateMs / 1000).toFixed(1)} s after it had to stop (${attempt.stopReason})`;
      const advice = "give attempt.signal to what it waits for, or call attempt.check()";
      this.#client.log.warn(`${attempt.stageName} of ${attempt.jobId} still runs ${late}: ${advice}`);
    }
  }

  /** Looks for handlers that block the event loop, which stops heartbeats, or that do not stop. Returns a function that ends it. */
  #lookForBlocks(): () => void {
    this.#loop = this.#client.log === silentLogger ? undefined : watchLoop(BLOCKED, LOOK_MS, BLOCKED_MS);
    let expectedAt = performance.now() + LOOK_MS;
    const timer = setInterval(() => {
      this.#loop?.beat(this.#attempts.size > 0);
      const lateMs = performance.now() - expectedAt;
      expectedAt = performance.now() + LOOK_MS;
      if (lateMs > BLOCKED_MS && this.#attempts.size > 0) {
        const seconds = (lateMs / 1000).toFixed(1);
        this.#client.log.warn(
          `a handler blocked the event loop for ${seconds} s, and no lease was renewed meanwhile: ${INSTEAD}`,
        );
      }
      for (const attempt of this.#attempts.values()) {
        this.#warnIfOverdue(attempt);
      }
    }, LOOK_MS);
    timer.unref();
    return () => {
      clearInterval(timer);
      this.#loop?.close();
    };
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
