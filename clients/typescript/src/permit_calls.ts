// Calls for permits and resources.
import { create, type MessageShape } from "@bufbuild/protobuf";
import { type CallOptions, LONGEST_WAIT_MS, WAIT_MARGIN_MS } from "./connection.js";
import { optionalDuration, toDuration, toInt64, waitMs } from "./documents.js";
import { InterlockError, PermitDenied } from "./errors.js";
import { FailureClass } from "./failures.js";
import type { PermitOutcome, Resource } from "./gen/interlock/v1/permit_pb.js";
import {
  AcquirePermitRequestSchema,
  PermitService,
  type PermitStatus,
  type PermitWaiter,
} from "./gen/interlock/v1/permit_service_pb.js";
import { HeldPermit, Keeper } from "./holding.js";
import { callOptions, found } from "./job_calls.js";
import { hostAndProcess } from "./node.js";
import { pages } from "./pages.js";
import {
  type AnyClaim,
  newOutcome,
  type OutcomeOptions,
  outcomeOf,
  type Permit,
  permitClaims,
  permitOf,
  permitRelease,
} from "./permits.js";
import { newPolicy, type PolicyOptions, ResourceWatch } from "./resources.js";
import { SessionCalls } from "./session_calls.js";
import { names } from "./stages.js";
import type { StreamOptions } from "./stream.js";

const rpc = PermitService.method;
/** Timeout of the call that finds out whether an abandoned request was granted. */
const GIVE_BACK_MS = 500;

/** Options of a permit. */
export interface AcquireOptions {
  /** Longest wait in line. Infinity: no limit. Undefined: 0, no wait. */
  readonly waitMs?: number | undefined;
  /** Time to live without a renewal, 1 s to 24 h. Undefined: 60 s, or the rest of the lease if `leaseToken` is set. */
  readonly ttlMs?: number | undefined;
  /** Name of the caller, for people and for the `minReporters` of breakers. Undefined: host and process id. */
  readonly holder?: string | undefined;
  /** Priority, -1,000 to 1,000; higher is served first. Undefined: 0. */
  readonly priority?: number | undefined;
  /** Lease such as `attempt.lease.leaseToken`; the permit ends with it at the latest. Undefined: none. */
  readonly leaseToken?: string | undefined;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
}

/** Requester and reason of an operation, for the audit log. */
export interface OperatorOptions extends CallOptions {
  /** Reason, at most 1 KiB. Undefined: none. */
  readonly reason?: string | undefined;
  /** Name of the caller, at most 128 bytes. Undefined: host and process id. */
  readonly requester?: string | undefined;
}

/** Methods of `Client` for permits and resources. */
export class PermitCalls extends SessionCalls {
  /** Renews the permits that this client holds. */
  protected readonly keeper = new Keeper((tokens, timeoutMs) => this.renewPermits(tokens, { timeoutMs }), this.log);

  /** Closes the connections; permits that are still held expire. */
  override async close(): Promise<void> {
    await this.keeper.close();
    await super.close();
  }

  /**
   * Runs a body while a permit is held: a lock, a limit, a rate, a breaker, or several together, all or none. As in
   * `client.withPermit(["doc-7", ["docs-api", 2]], async (permit) => {...}, { waitMs: 30_000 })`.
   *
   * The permit is renewed in the background. At the end it is released with the outcome of the body: success, or the
   * class of its error, as for a handler. The error is thrown on. When the permit is lost, `permit.signal` is aborted.
   *
   * @throws PermitDenied if it was not granted within the wait.
   * @throws PermitLost if it was lost before the body ended, unless the body throws an error of its own.
   */
  async withPermit<T>(
    claims: AnyClaim | readonly AnyClaim[],
    body: (permit: HeldPermit) => T | Promise<T>,
    options: AcquireOptions = {},
  ): Promise<T> {
    const permit = await this.permit(claims, options);
    let result: T;
    try {
      result = await body(permit);
    } catch (error) {
      const lost = await permit.end(outcomeOf(error, permit.signal));
      const isStop = error instanceof Error && (error.name === "AbortError" || error === permit.signal.reason);
      throw lost !== undefined && isStop ? lost : error;
    }
    const lost = await permit.end(newOutcome({}));
    if (lost !== undefined) {
      throw lost;
    }
    return result;
  }

  /**
   * Acquires a permit and renews it in the background until `release`, as in
   * `await using permit = await client.permit("doc-7", { waitMs: 30_000 })`.
   *
   * @throws PermitDenied if it was not granted within the wait.
   */
  async permit(claims: AnyClaim | readonly AnyClaim[], options: AcquireOptions = {}): Promise<HeldPermit> {
    const permit = await this.acquirePermit(claims, options);
    return new HeldPermit(permit, (token, outcome) => this.#release(token, outcome), this.keeper, this.log);
  }

  /**
   * Acquires a permit that the caller renews and releases; `permit` and `withPermit` do both by themselves. Waiters are
   * served by priority, then in order of arrival, across servers. A wait of more than 50 s is made of several calls,
   * and each call starts at the end of the line.
   *
   * @throws PermitDenied if it was not granted within the wait.
   * @throws LeaseLost if the lease is not held.
   */
  async acquirePermit(claims: AnyClaim | readonly AnyClaim[], options: AcquireOptions = {}): Promise<Permit> {
    const deadline = performance.now() + waitMs(options.waitMs ?? 0, "waitMs");
    for (;;) {
      const wait = Math.min(Math.max(0, deadline - performance.now()), LONGEST_WAIT_MS);
      const request = create(AcquirePermitRequestSchema, {
        claims: permitClaims(claims),
        ttl: optionalDuration(options.ttlMs, "ttlMs"),
        wait: toDuration(wait, "waitMs"),
        holder: options.holder ?? (options.leaseToken === undefined ? hostAndProcess() : ""),
        priority: options.priority,
        leaseToken: options.leaseToken,
        requestId: crypto.randomUUID(),
      });
      const { result } = await this.#acquire(request, wait, options.signal);
      if (result.case === "permit") {
        return permitOf(result.value);
      }
      if (performance.now() >= deadline && result.case === "denial") {
        throw new PermitDenied(result.value);
      }
    }
  }

  /**
   * Renews up to 1,000 permits and returns a status for each. A lost permit is not an error.
   *
   * @param options `ttlMs`: new time to live of each permit. Undefined: the one it was acquired with.
   */
  async renewPermits(
    tokens: readonly string[],
    options: CallOptions & { readonly ttlMs?: number | undefined } = {},
  ): Promise<readonly PermitStatus[]> {
    const request = { permitTokens: names(tokens, "tokens"), ttl: optionalDuration(options.ttlMs, "ttlMs") };
    return (await this.call(rpc.renewPermits, request, callOptions(options))).statuses;
  }

  /**
   * Ends a permit and reports its outcome; returns whether this call ended it.
   *
   * @throws PermitLost if the permit expired or was revoked. A permit that was released before is not an error.
   */
  async releasePermit(token: string, outcome: OutcomeOptions = {}): Promise<boolean> {
    return await this.#release(token, newOutcome(outcome));
  }

  /**
   * Replaces all rules of a resource. Held permits stay valid.
   *
   * @param options `expectedVersion`: required version of the resource; 0: it must not exist. Undefined: any version.
   */
  async setPolicy(
    name: string,
    policy: PolicyOptions,
    options: CallOptions & { readonly expectedVersion?: bigint | number | undefined } = {},
  ): Promise<Resource> {
    const expectedVersion = toInt64(options.expectedVersion, "expectedVersion");
    const request = { name, policy: newPolicy(policy), expectedVersion };
    return found((await this.call(rpc.updateResource, request, callOptions(options))).resource);
  }

  /** Reads a resource with its holders. @throws NotFound if it was never used and has no rules. */
  async getResource(name: string, options: CallOptions = {}): Promise<Resource> {
    return found((await this.call(rpc.getResource, { name }, options)).resource);
  }

  /** Iterates over resources by name prefix, in order of name, without holders, page by page. */
  async *listResources(namePrefix = "", options: CallOptions = {}): AsyncGenerator<Resource, void> {
    const request = { namePrefix, pageSize: 1_000 };
    const read = (pageToken: string) => this.call(rpc.listResources, { ...request, pageToken }, options);
    for await (const page of pages(read)) {
      yield* page.resources;
    }
  }

  /**
   * Iterates over callers and stages that wait for a permit of a resource, in order of priority, the highest first, then of
   * time, page by page. @throws NotFound if the resource was never used and has no rules.
   */
  async *listWaiters(name: string, options: CallOptions = {}): AsyncGenerator<PermitWaiter, void> {
    const request = { name, pageSize: 1_000 };
    const read = (pageToken: string) => this.call(rpc.listWaiters, { ...request, pageToken }, options);
    for await (const page of pages(read)) {
      yield* page.waiters;
    }
  }

  /** Deletes a resource that is not in use. */
  async deleteResource(
    name: string,
    options: CallOptions & { readonly expectedVersion?: bigint | number | undefined } = {},
  ): Promise<void> {
    const expectedVersion = toInt64(options.expectedVersion, "expectedVersion");
    await this.call(rpc.deleteResource, { name, expectedVersion }, callOptions(options));
  }

  /**
   * Follows a resource with its holders: its current state, then its state after each change. Several changes may be
   * merged; the last state is always delivered, also after a stream breaks and is restarted on any server. Renewals are
   * not changes. The watch does not end by itself.
   *
   * @param name name of the resource, which need not exist yet.
   */
  watchResource(name: string, options: StreamOptions = {}): ResourceWatch {
    return new ResourceWatch(this.openStream(rpc.watchResource, () => ({ name }), options));
  }

  /** Closes the breaker of a resource and resets its counts. @throws InvalidTransition if it has no breaker. */
  async resetBreaker(name: string, options: OperatorOptions = {}): Promise<Resource> {
    const request = { name, reason: options.reason, requester: options.requester ?? hostAndProcess() };
    return found((await this.call(rpc.resetBreaker, request, callOptions(options))).resource);
  }

  /**
   * Revokes a permit at all of its resources. The holder gets `PermitLost`, as after an expiry. If the permit is not
   * held any more, nothing changes.
   *
   * @param fencingToken fencing token of the permit at this resource, as in `Resource.holders`.
   * @throws InvalidTransition if the permit belongs to an attempt of a stage, and ends with it.
   */
  async revokePermit(
    resource: string,
    fencingToken: bigint | number,
    options: OperatorOptions = {},
  ): Promise<Resource> {
    const request = {
      resource,
      fencingToken: toInt64(fencingToken, "fencingToken"),
      reason: options.reason,
      requester: options.requester ?? hostAndProcess(),
    };
    return found((await this.call(rpc.revokePermit, request, callOptions(options))).resource);
  }

  async #acquire(
    request: MessageShape<typeof AcquirePermitRequestSchema>,
    wait: number,
    signal: AbortSignal | undefined,
  ): Promise<MessageShape<typeof rpc.acquirePermit.output>> {
    const timeoutMs = wait + Math.max(WAIT_MARGIN_MS, this.timeoutMs);
    try {
      return await this.call(rpc.acquirePermit, request, { timeoutMs, signal });
    } catch (error) {
      if (!(error instanceof InterlockError) || error.maybeApplied) {
        this.keeper.begin(this.#giveBack(request));
      }
      throw error;
    }
  }

  /** Ends an abandoned request. A repeat of the call returns the permit if it was granted. */
  async #giveBack(request: MessageShape<typeof AcquirePermitRequestSchema>): Promise<void> {
    const { result } = await this.call(rpc.acquirePermit, request, { timeoutMs: GIVE_BACK_MS });
    if (result.case === "permit") {
      await this.releasePermit(result.value.permitToken, { failureClass: FailureClass.CANCELLED });
    }
  }

  async #release(token: string, outcome: PermitOutcome): Promise<boolean> {
    const request = { ...permitRelease(token), outcome };
    return await this.keeper.ending([token], async () => (await this.call(rpc.releasePermit, request)).applied);
  }
}
