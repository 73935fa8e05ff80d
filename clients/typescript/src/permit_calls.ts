// The calls of those who use permits, and of those who set the rules.
import { create, type MessageShape } from "@bufbuild/protobuf";
import { type CallOptions, LONGEST_WAIT_MS, WAIT_MARGIN_MS } from "./connection.js";
import { optionalDuration, toDuration, toInt64, waitMs } from "./documents.js";
import { InterlockError, PermitDenied } from "./errors.js";
import { FailureClass } from "./failures.js";
import type { PermitOutcome, Resource } from "./gen/interlock/v1/permit_pb.js";
import { AcquirePermitRequestSchema, PermitService, type PermitStatus } from "./gen/interlock/v1/permit_service_pb.js";
import { HeldPermit, Keeper } from "./holding.js";
import { callOptions, found } from "./job_calls.js";
import { hostAndProcess } from "./node.js";
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
import { RecordCalls } from "./record_calls.js";
import { newPolicy, type PolicyOptions, ResourceWatch } from "./resources.js";
import { names } from "./stages.js";
import type { StreamOptions } from "./stream.js";

const rpc = PermitService.method;
/** The deadline of the call that finds out whether a permit was granted that is not wanted any more. */
const GIVE_BACK_MS = 500;

/** How a permit is acquired. */
export interface AcquireOptions {
  /** How long to wait in line. Infinity: without limit. Undefined: 0, answer at once. */
  readonly waitMs?: number | undefined;
  /** How long it lasts without being renewed, 1 s to 24 h. Undefined: 60 s; with `leaseToken` as long as the lease. */
  readonly ttlMs?: number | undefined;
  /** Who asks, for people and for breakers that want several reporters. Undefined: host and process id. */
  readonly holder?: string | undefined;
  /** Higher is served first, -1,000 to 1,000. Undefined: 0. */
  readonly priority?: number | undefined;
  /** Binds it to this lease, such as `attempt.lease.leaseToken`: it ends with it at the latest. Undefined: none. */
  readonly leaseToken?: string | undefined;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
}

/** Who does something to a resource by hand, and why, for the record. */
export interface OperatorOptions extends CallOptions {
  /** At most 1 KiB. Undefined: none. */
  readonly reason?: string | undefined;
  /** At most 128 bytes. Undefined: host and process id. */
  readonly requester?: string | undefined;
}

/** What `Client` can do with permits and resources. */
export class PermitCalls extends RecordCalls {
  /** Renews the permits that this client holds. */
  protected readonly keeper = new Keeper((tokens, timeoutMs) => this.renewPermits(tokens, { timeoutMs }), this.log);

  /** Ends the connections; permits that are still held expire. */
  override async close(): Promise<void> {
    await this.keeper.close();
    await super.close();
  }

  /**
   * Runs a body while a permit is held: a lock, a limit, a rate, a breaker, or several together, all or none. As in
   * `client.withPermit(["doc-7", ["docs-api", 2]], async (permit) => {...}, { waitMs: 30_000 })`.
   *
   * The permit is renewed in the background. At the end it is released with what came of the body: success, or what its
   * error means, as a worker takes it for a stage. The error goes on. When the permit is lost, `permit.signal` is aborted.
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
   * Acquires a permit that only you renew and release; `permit` and `withPermit` do both. Waiters are served by priority,
   * then in order, across servers. A wait of more than 50 s is made of several calls, each with a new place in the line.
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
   * Renews up to 1,000 permits. There is a status for each: a lost one is no error.
   *
   * @param options `ttlMs`: how long each lasts from now on. Undefined: as it was acquired for.
   */
  async renewPermits(
    tokens: readonly string[],
    options: CallOptions & { readonly ttlMs?: number | undefined } = {},
  ): Promise<readonly PermitStatus[]> {
    const request = { permitTokens: names(tokens, "tokens"), ttl: optionalDuration(options.ttlMs, "ttlMs") };
    return (await this.call(rpc.renewPermits, request, callOptions(options))).statuses;
  }

  /**
   * Ends a permit and says what came of its use; whether this call has ended it.
   *
   * @throws PermitLost if the permit had expired or was revoked. One that was released before is no error.
   */
  async releasePermit(token: string, outcome: OutcomeOptions = {}): Promise<boolean> {
    return await this.#release(token, newOutcome(outcome));
  }

  /**
   * Sets all rules of a resource, in place of those it had. Permits that are held stay.
   *
   * @param options `expectedVersion`: only if the resource has this version; 0: only if it is not there. Undefined:
   *   whatever it has.
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

  /** All resources whose names begin with a prefix, by name and without their holders, page after page. */
  async *listResources(namePrefix = "", options: CallOptions = {}): AsyncGenerator<Resource, void> {
    let pageToken = "";
    do {
      const page = await this.call(rpc.listResources, { namePrefix, pageSize: 1_000, pageToken }, options);
      yield* page.resources;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
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
   * Follows a resource: as it is, with its holders, and after each change. Several changes can come as one; the last
   * always comes, also when a stream breaks and is begun again, on any server. Renewals are no changes. It has no end of
   * its own.
   *
   * @param name the resource, which need not be there yet.
   */
  watchResource(name: string, options: StreamOptions = {}): ResourceWatch {
    return new ResourceWatch(this.openStream(rpc.watchResource, () => ({ name }), options));
  }

  /** Closes the breaker of a resource by hand, and forgets what it has counted. @throws InvalidTransition: it has none. */
  async resetBreaker(name: string, options: OperatorOptions = {}): Promise<Resource> {
    const request = { name, reason: options.reason, requester: options.requester ?? hostAndProcess() };
    return found((await this.call(rpc.resetBreaker, request, callOptions(options))).resource);
  }

  /**
   * Takes a permit from its holder, at all of its resources. Its holder gets `PermitLost`, as after an expiry. A permit
   * that is not held any more changes nothing.
   *
   * @param fencingToken the permit's token at this resource, as `Resource.holders` has it.
   * @throws InvalidTransition if the permit came with the attempt of a stage, and ends with it.
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

  /** Ends a request that is not wanted any more. The same call again returns the permit, had it been granted. */
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
