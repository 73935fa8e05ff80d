// Permits held while code runs: renewed in the background, and released with the outcome of the code.
//
// One loop renews all permits of a client; permits that are due at the same time go into one call. A permit that
// expires without a renewal counts as lost, because another holder may have it. Safety does not depend on this, but on
// fencing tokens and on the `permitFence` of a commit.
import { milliseconds } from "./documents.js";
import { Code, InterlockError, PermitLost } from "./errors.js";
import { FailureClass, textOf } from "./failures.js";
import type { PermitOutcome } from "./gen/interlock/v1/permit_pb.js";
import type { PermitStatus } from "./gen/interlock/v1/permit_service_pb.js";
import type { Logger } from "./log.js";
import { newOutcome, type OutcomeOptions, type Permit } from "./permits.js";
import { Wakeup } from "./retry.js";

/** The most tokens that one RenewPermits may carry. */
const TOKENS = 1_000;
/** Wait after a renewal that failed with all its retries; less for permits that end soon. */
const PAUSE_MS = 500;
/** Shortest timeout of a renewal, even if the permit has expired by the local clock: it may still be free. */
const LEAST_MS = 100;
/** Time for pending releases when the client is closed. */
const LAST_MS = 2_000;

/** Renews permits by token within a time; returns a status for each. */
export type Renew = (tokens: string[], timeoutMs: number) => Promise<readonly PermitStatus[]>;
/** Ends a permit. */
export type Release = (token: string, outcome: PermitOutcome) => Promise<boolean>;

/** Expiry and next renewal of a permit. Times are on the monotonic clock. */
class Holding {
  readonly permit: Permit;
  readonly onLoss: () => void;
  dueAt = Number.POSITIVE_INFINITY;
  expiresAt = Number.POSITIVE_INFINITY;
  isRenewing = false;
  isLost = false;
  /** Calls in flight that end the permit: during these, "not held" does not mean lost. */
  endings = 0;
  /** Whether the permit was released. */
  hasEnded = false;
  #intervalMs = Number.POSITIVE_INFINITY;

  constructor(permit: Permit, onLoss: () => void) {
    this.permit = permit;
    this.onLoss = onLoss;
    this.lasts(permit.ttlMs, performance.now());
  }

  /** Sets the expiry to `ttlMs` after `since`. Undefined: the permit lasts as long as its lease. */
  lasts(ttlMs: number | undefined, since: number): void {
    if (ttlMs === undefined) {
      this.dueAt = Number.POSITIVE_INFINITY;
      this.expiresAt = Number.POSITIVE_INFINITY;
      return;
    }
    this.expiresAt = since + ttlMs;
    this.#intervalMs = Math.max(50, ttlMs / 3);
    // Rounded up to a grid, so that permits with the same ttl are due together.
    const grid = 2 ** Math.floor(Math.log2(this.#intervalMs / 4));
    this.dueAt = Math.ceil((since + this.#intervalMs) / grid) * grid;
  }

  /** Handles a failed renewal. */
  missed(log: Logger): void {
    const now = performance.now();
    this.dueAt = now + Math.min(PAUSE_MS, this.#intervalMs / 2);
    if (now >= this.expiresAt) {
      this.lose(log);
    }
  }

  /** Marks the permit as lost, unless a call in flight ends it. */
  lose(log: Logger): void {
    if (this.endings > 0 || this.hasEnded || this.isLost) {
      this.dueAt = performance.now() + PAUSE_MS;
      return;
    }
    log.warn(`the permit of ${[...this.permit.fencingTokens.keys()].join(", ")} is lost`);
    this.isLost = true;
    this.onLoss();
  }
}

/** Renews the permits of one client, and waits for its background work at the end. */
export class Keeper {
  readonly #renew: Renew;
  readonly #log: Logger;
  readonly #holdings = new Map<string, Holding>();
  readonly #background = new Set<Promise<unknown>>();
  readonly #woken = new Wakeup();
  #isRunning = false;
  #isClosed = false;

  constructor(renew: Renew, log: Logger) {
    this.#renew = renew;
    this.#log = log;
  }

  /** Starts to renew the permit. */
  add(holding: Holding): void {
    this.#holdings.set(holding.permit.token, holding);
    this.#woken.set();
    if (!this.#isRunning) {
      this.#isRunning = true;
      void this.#run();
    }
  }

  /** Stops renewing the permit. */
  remove(holding: Holding): void {
    this.#holdings.delete(holding.permit.token);
    this.#woken.set();
  }

  /** Makes a call that ends these permits if it succeeds. */
  async ending<T>(tokens: readonly string[], call: () => Promise<T>): Promise<T> {
    const holdings = tokens.flatMap((token) => this.#holdings.get(token) ?? []);
    for (const holding of holdings) {
      holding.endings += 1;
    }
    try {
      const result = await call();
      for (const holding of holdings) {
        holding.hasEnded = true;
        this.remove(holding);
      }
      return result;
    } catch (error) {
      for (const holding of holdings) {
        holding.endings -= 1;
        holding.dueAt = performance.now();
      }
      this.#woken.set();
      throw error;
    }
  }

  /** Runs background work that `close` waits for. Errors of Interlock are dropped. */
  begin(work: Promise<unknown>): void {
    const settled = work.catch((error: unknown) => {
      if (!(error instanceof InterlockError)) {
        this.#log.error(textOf(error));
      }
    });
    this.#background.add(settled);
    void settled.finally(() => this.#background.delete(settled));
  }

  /** Stops all renewals, and waits for background work, at most 2 s. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#holdings.clear();
    this.#woken.set();
    if (this.#background.size > 0) {
      const late = new Wakeup();
      void Promise.allSettled(this.#background).then(() => late.set());
      await late.wait(LAST_MS);
    }
  }

  async #run(): Promise<void> {
    while (this.#holdings.size > 0 && !this.#isClosed) {
      const now = performance.now();
      const idle = [...this.#holdings.values()].filter((holding) => !holding.isRenewing);
      const due = idle.filter((holding) => holding.dueAt <= now).slice(0, TOKENS);
      if (due.length > 0) {
        // Outside this loop, so that a call without a response does not delay others.
        void this.#renewAll(due);
        continue;
      }
      const nextAt = Math.min(...idle.map((holding) => holding.dueAt));
      await this.#woken.wait(Number.isFinite(nextAt) ? nextAt - now : undefined);
    }
    this.#isRunning = false;
  }

  async #renewAll(holdings: readonly Holding[]): Promise<void> {
    for (const holding of holdings) {
      holding.isRenewing = true;
    }
    const sentAt = performance.now();
    const limit = Math.max(LEAST_MS, Math.min(...holdings.map((holding) => holding.expiresAt)) - sentAt);
    try {
      const statuses = await this.#renew(
        holdings.map((holding) => holding.permit.token),
        limit,
      );
      for (const [index, holding] of holdings.entries()) {
        const status = statuses[index];
        if (status === undefined || status.lost) {
          holding.lose(this.#log);
        } else {
          holding.lasts(status.ttl && milliseconds(status.ttl), sentAt);
        }
      }
    } catch (error) {
      if (!this.#isClosed) {
        this.#log.warn(`permits could not be renewed: ${textOf(error)}`);
      }
      for (const holding of holdings) {
        holding.missed(this.#log);
      }
    }
    for (const holding of holdings) {
      holding.isRenewing = false;
      if (holding.isLost) {
        this.remove(holding);
      }
    }
    this.#woken.set();
  }
}

/**
 * A permit held until `release`, or the end of an `await using`. It is renewed at each third of its ttl. Once it is
 * lost, `signal` is aborted with `PermitLost`.
 */
export class HeldPermit implements AsyncDisposable {
  readonly #holding: Holding;
  readonly #keeper: Keeper;
  readonly #release: Release;
  readonly #log: Logger;
  readonly #lost = new AbortController();
  #outcome: PermitOutcome | undefined;
  #released: Promise<PermitLost | undefined> | undefined;

  /** Called by the client. */
  constructor(permit: Permit, release: Release, keeper: Keeper, log: Logger) {
    this.#holding = new Holding(permit, () => this.#lost.abort(this.#asError()));
    this.#release = release;
    this.#keeper = keeper;
    this.#log = log;
    keeper.add(this.#holding);
  }

  /** Permit token, such as for `permitFence` of `Client.commit`. */
  get token(): string {
    return this.#holding.permit.token;
  }

  /** Fencing token by resource. Strictly increases with each grant; third parties can refuse older ones. */
  get fencingTokens(): ReadonlyMap<string, bigint> {
    return this.#holding.permit.fencingTokens;
  }

  /** Aborted with `PermitLost` once another holder may have it. Give it to `fetch` and the like. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /** Whether another holder may have it. */
  get isLost(): boolean {
    return this.#holding.isLost;
  }

  /** Throws if the permit is lost; for code without a signal, such as loops. @throws PermitLost */
  check(): void {
    this.signal.throwIfAborted();
  }

  /** Sets the outcome of the use, in place of the one of `release`. The last report counts. */
  report(outcome: OutcomeOptions = {}): void {
    this.#outcome = newOutcome(outcome);
  }

  /**
   * Ends the permit with the reported outcome, else as a success. A second call changes nothing.
   *
   * @throws PermitLost if it was lost before.
   */
  async release(): Promise<void> {
    await this.#endOrThrow(newOutcome({}));
  }

  /**
   * The end of an `await using`, which does not know whether its block threw: without a report, this says nothing about
   * the resource.
   *
   * @throws PermitLost if the permit was lost before.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endOrThrow(newOutcome({ failureClass: FailureClass.CANCELLED }));
  }

  async #endOrThrow(outcome: PermitOutcome): Promise<void> {
    const lost = await this.end(outcome);
    if (lost !== undefined) {
      throw lost;
    }
  }

  /** Ends the permit with the reported outcome, else with this one. Undefined: it was held until now. */
  end(outcome: PermitOutcome): Promise<PermitLost | undefined> {
    this.#released ??= this.#end(this.#outcome ?? outcome);
    return this.#released;
  }

  async #end(outcome: PermitOutcome): Promise<PermitLost | undefined> {
    const holding = this.#holding;
    if (holding.isLost) {
      return this.#asError();
    }
    // From here on a loss does not abort the signal any more.
    holding.endings += 1;
    try {
      if (!holding.hasEnded) {
        await this.#release(this.token, outcome);
      }
    } catch (error) {
      if (error instanceof PermitLost) {
        return error;
      }
      // The permit expires instead.
      this.#log.warn(`the permit of ${this.#resources()} could not be released: ${textOf(error)}`);
    } finally {
      this.#keeper.remove(holding);
    }
    return undefined;
  }

  #resources(): string {
    return [...this.fencingTokens.keys()].join(", ");
  }

  #asError(): PermitLost {
    return new PermitLost(Code.FailedPrecondition, `the permit of ${this.#resources()} has expired or was revoked`, {
      reason: "PERMIT_LOST",
      metadata: { outcome: "NOT_APPLIED" },
    });
  }
}
