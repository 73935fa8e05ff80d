// Rules of resources, and the watch of a resource.
import { create } from "@bufbuild/protobuf";
import { optionalDuration, toDuration, toInt64 } from "./documents.js";
import { type Resource, type ResourcePolicy, ResourcePolicySchema } from "./gen/interlock/v1/permit_pb.js";
import type { WatchResourceResponse } from "./gen/interlock/v1/permit_service_pb.js";
import { isSameTime } from "./jobs_watch.js";
import { type Stream, Watch } from "./stream.js";

/** Token bucket: `tokens` are added steadily per period. */
export interface Rate {
  readonly tokens: number;
  readonly periodMs: number;
  /** Size of the bucket in tokens. Undefined: `tokens`. */
  readonly burst?: number | undefined;
}

/** Circuit breaker: stops grants when calls fail. */
export interface Breaker {
  /** Consecutive failures that open the breaker. Undefined: 3. */
  readonly failureThreshold?: number | undefined;
  /** Share of failed calls in the window that opens it. Undefined: no share does. */
  readonly failureRatio?: number | undefined;
  /** Window of the share. Undefined: 60 s. */
  readonly windowMs?: number | undefined;
  /** Least number of calls in the window for the share to count. Undefined: 10. */
  readonly minCalls?: number | undefined;
  /** Least number of different holders that reported failures. Undefined: 1. */
  readonly minReporters?: number | undefined;
  /** Open time. Undefined: 60 s. */
  readonly openDurationMs?: number | undefined;
  /** Factor on the open time after each failed probe. Undefined: 1. */
  readonly openMultiplier?: number | undefined;
  /** Longest open time. Undefined: 1 h. */
  readonly maxOpenDurationMs?: number | undefined;
  /** Permits granted as probes; the same number of successes closes the breaker. Undefined: 1. */
  readonly probes?: number | undefined;
  /** Permits granted at a time while open: 0 or 1. Undefined: 0. */
  readonly openLimit?: number | undefined;
}

/** Limit on units in use, learned from outcomes. */
export interface AdaptiveLimit {
  /** The highest limit. */
  readonly max: number;
  /** The lowest limit, and the initial one. Undefined: 1. */
  readonly min?: number | undefined;
  /** Growth of the limit after as many successes as the limit allows. Undefined: 1. */
  readonly increase?: number | undefined;
  /** Factor on the limit when calls fail or take too long. Undefined: 0.5. */
  readonly decrease?: number | undefined;
  /** Latency above which a call takes too long. Undefined: no call does. */
  readonly latencyTargetMs?: number | undefined;
  /** Whether a rate is learned as well, from the first RATE_LIMITED on. Undefined: false. */
  readonly learnRate?: boolean | undefined;
}

/** All rules of a resource. They apply together. A resource without rules is a lock. */
export interface PolicyOptions {
  /** Most units in use at once; 0 grants nothing. Undefined: no limit, or that of `adaptive`. */
  readonly capacity?: number | undefined;
  /** Token buckets, at most 8. Undefined: none. */
  readonly rates?: readonly Rate[] | undefined;
  /** The shortest time between two grants. Undefined: none. */
  readonly minIntervalMs?: number | undefined;
  /** Circuit breaker. Undefined: failures stop no grants. */
  readonly breaker?: Breaker | undefined;
  /** Learned limit, at most `capacity` if both are set. Undefined: no limit is learned. */
  readonly adaptive?: AdaptiveLimit | undefined;
}

/** The rules as a message. Undefined: no rules. */
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

/** State of a resource after one update. */
export interface ResourceUpdate {
  /** The resource with its holders. Undefined: it does not exist. */
  readonly resource: Resource | undefined;
}

/** The iterator that `Client.watchResource` returns. Does not end by itself. */
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
      // A restarted stream first sends the current state again.
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
