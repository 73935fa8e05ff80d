// The rules of resources, and following a resource.
import { create } from "@bufbuild/protobuf";
import { optionalDuration, toDuration, toInt64 } from "./documents.js";
import { type Resource, type ResourcePolicy, ResourcePolicySchema } from "./gen/interlock/v1/permit_pb.js";
import type { WatchResourceResponse } from "./gen/interlock/v1/permit_service_pb.js";
import { isSameTime } from "./jobs_watch.js";
import { type Stream, Watch } from "./stream.js";

/** A token bucket: `tokens` are added in each period, steadily. */
export interface Rate {
  readonly tokens: number;
  readonly periodMs: number;
  /** The most tokens in the bucket. Undefined: `tokens`. */
  readonly burst?: number | undefined;
}

/** When grants stop because calls fail, and how they begin again. */
export interface Breaker {
  /** Failures in a row that open it. Undefined: 3. */
  readonly failureThreshold?: number | undefined;
  /** The share of failed calls in the window that opens it. Undefined: none does. */
  readonly failureRatio?: number | undefined;
  /** The window of that share. Undefined: 60 s. */
  readonly windowMs?: number | undefined;
  /** Calls that must be in the window before the share counts. Undefined: 10. */
  readonly minCalls?: number | undefined;
  /** How many different holders must be among those who failed. Undefined: 1. */
  readonly minReporters?: number | undefined;
  /** How long it stays open. Undefined: 60 s. */
  readonly openDurationMs?: number | undefined;
  /** By what that grows each time a probe has failed. Undefined: 1. */
  readonly openMultiplier?: number | undefined;
  /** The longest it stays open. Undefined: 1 h. */
  readonly maxOpenDurationMs?: number | undefined;
  /** How many permits are given to try it; so many successes close it. Undefined: 1. */
  readonly probes?: number | undefined;
  /** What is granted while it is open: 0 nothing, 1 one permit at a time. Undefined: 0. */
  readonly openLimit?: number | undefined;
}

/** A limit on how much is in use at once, which is learned from the outcomes. */
export interface AdaptiveLimit {
  /** The highest limit. */
  readonly max: number;
  /** The lowest, at which it begins. Undefined: 1. */
  readonly min?: number | undefined;
  /** By how much it grows in the time in which as many calls succeed as it allows. Undefined: 1. */
  readonly increase?: number | undefined;
  /** By what it is multiplied when calls fail or take too long. Undefined: 0.5. */
  readonly decrease?: number | undefined;
  /** Beyond this a call takes too long. Undefined: none does. */
  readonly latencyTargetMs?: number | undefined;
  /** Whether a rate is learned too, from the first RATE_LIMITED on. Undefined: false. */
  readonly learnRate?: boolean | undefined;
}

/** All rules of a resource. They hold together. A resource without any is a lock. */
export interface PolicyOptions {
  /** How much may be in use at once; 0 grants nothing. Undefined: no limit, or that of `adaptive`. */
  readonly capacity?: number | undefined;
  /** At most 8. Undefined: none. */
  readonly rates?: readonly Rate[] | undefined;
  /** The shortest time between two grants. Undefined: none. */
  readonly minIntervalMs?: number | undefined;
  /** Undefined: failures stop no grants. */
  readonly breaker?: Breaker | undefined;
  /** At most `capacity`, where that is set too. Undefined: no limit is learned. */
  readonly adaptive?: AdaptiveLimit | undefined;
}

/** The rules as a message. Undefined: there are none. */
export function newPolicy(policy: PolicyOptions): ResourcePolicy | undefined {
  const { breaker, adaptive, rates = [] } = policy;
  if (Object.values(policy).every((rule) => rule === undefined || (Array.isArray(rule) && rule.length === 0))) {
    return undefined;
  }
  return create(ResourcePolicySchema, {
    capacity: toInt64(policy.capacity, "capacity"),
    rates: rates.map((rate) => ({
      tokens: toInt64(rate.tokens, "rates.tokens"),
      period: toDuration(rate.periodMs, "rates.periodMs"),
      burst: toInt64(rate.burst, "rates.burst"),
    })),
    minInterval: optionalDuration(policy.minIntervalMs, "minIntervalMs"),
    breaker: breaker && {
      failureThreshold: breaker.failureThreshold,
      failureRatio: breaker.failureRatio,
      window: optionalDuration(breaker.windowMs, "breaker.windowMs"),
      minCalls: breaker.minCalls,
      minReporters: breaker.minReporters,
      openDuration: optionalDuration(breaker.openDurationMs, "breaker.openDurationMs"),
      openMultiplier: breaker.openMultiplier,
      maxOpenDuration: optionalDuration(breaker.maxOpenDurationMs, "breaker.maxOpenDurationMs"),
      probes: breaker.probes,
      openLimit: breaker.openLimit,
    },
    adaptive: adaptive && {
      min: toInt64(adaptive.min, "adaptive.min"),
      max: toInt64(adaptive.max, "adaptive.max"),
      increase: adaptive.increase,
      decrease: adaptive.decrease,
      latencyTarget: optionalDuration(adaptive.latencyTargetMs, "adaptive.latencyTargetMs"),
      learnRate: adaptive.learnRate,
    },
  });
}

/** A resource after one update. */
export interface ResourceUpdate {
  /** The resource with its holders. Undefined: it is not there. */
  readonly resource: Resource | undefined;
}

/** What `Client.watchResource` returns. Has no end of its own. */
export class ResourceWatch extends Watch<ResourceUpdate> {
  readonly #stream: Stream<WatchResourceResponse>;
  #last: ResourceUpdate | undefined;

  constructor(stream: Stream<WatchResourceResponse>) {
    super();
    this.#stream = stream;
  }

  override close(): void {
    this.#stream.close();
  }

  protected override async read(): Promise<ResourceUpdate | undefined> {
    for (;;) {
      const response = await this.#stream.readOn();
      if (response === undefined) {
        return undefined;
      }
      this.#stream.confirm();
      if (response.update.case === "keepalive") {
        continue;
      }
      const now = { resource: response.update.case === "resource" ? response.update.value : undefined };
      // A stream that was begun again sends first what is there.
      if (this.#last === undefined || !isSame(this.#last.resource, now.resource)) {
        this.#last = now;
        return now;
      }
    }
  }
}

function isSame(one: Resource | undefined, other: Resource | undefined): boolean {
  return one?.version === other?.version && isSameTime(one?.createTime, other?.createTime);
}
