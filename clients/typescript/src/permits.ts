// Permits: claims, grants and outcomes.
import { create } from "@bufbuild/protobuf";
import { described, milliseconds, optionalDuration } from "./documents.js";
import { PermitDenied, PermitLost } from "./errors.js";
import { FailureClass, failureOf } from "./failures.js";
import {
  type PermitClaim,
  PermitClaimSchema,
  type Permit as PermitMessage,
  PermitMode,
  type PermitOutcome,
  PermitOutcomeSchema,
} from "./gen/interlock/v1/permit_pb.js";
import { type ReleasePermitRequest, ReleasePermitRequestSchema } from "./gen/interlock/v1/permit_service_pb.js";

export { PermitMode };

/** The longest `retryAfterMs` and `latencyMs` that the server accepts. */
const LONGEST_MS = 86_400_000;

/** A claim on one resource. */
export interface Claim {
  readonly resource: string;
  /** Units of its capacity, and tokens of its rates. Undefined: 1. */
  readonly amount?: number | undefined;
  /** Mode. Undefined: EXCLUSIVE on a resource without rules (a lock), SHARED on one with rules. */
  readonly mode?: PermitMode | undefined;
}

/** The name of a resource, a pair of a name and an amount, or a `Claim`. */
export type AnyClaim = string | readonly [resource: string, amount: number] | Claim;

/** A granted permit. */
export interface Permit {
  /** Permit token. */
  readonly token: string;
  /** Fencing token by resource. Strictly increases with each grant; third parties can refuse older ones. */
  readonly fencingTokens: ReadonlyMap<string, bigint>;
  /** Time until it expires, from the response on. Undefined: it lasts as long as its lease. */
  readonly ttlMs: number | undefined;
}

/** Outcome of the use of a permit. */
export interface OutcomeOptions {
  /** Class of the failure. Undefined: success. CANCELLED says nothing about the resource. */
  readonly failureClass?: FailureClass | undefined;
  /** Wait that the called service asked for, 0 to 24 h. Undefined: not known. */
  readonly retryAfterMs?: number | undefined;
  /** Duration of the use, 0 to 24 h. Undefined: the time from grant to release. */
  readonly latencyMs?: number | undefined;
}

/** A request for `Client.commit` that ends a permit. */
export function permitRelease(token: string, outcome: OutcomeOptions = {}): ReleasePermitRequest {
  return create(ReleasePermitRequestSchema, { permitToken: token, outcome: newOutcome(outcome) });
}

/** Claims as messages. One claim may stand without a list. */
export function permitClaims(claims: AnyClaim | readonly AnyClaim[]): PermitClaim[] {
  const isOne = !Array.isArray(claims) || (claims.length === 2 && typeof claims[1] === "number");
  const list = isOne ? [claims as AnyClaim] : (claims as readonly AnyClaim[]);
  return list.map((claim) => {
    const { resource, amount, mode } = asClaim(claim);
    if (typeof resource !== "string") {
      throw new TypeError(`a claim is a name, [name, amount] or { resource }, not ${described(claim)}`);
    }
    if (amount !== undefined && !Number.isSafeInteger(amount)) {
      throw new RangeError(`the amount of ${JSON.stringify(resource)} is a whole number, not ${String(amount)}`);
    }
    return create(PermitClaimSchema, { resource, amount: BigInt(amount ?? 1), mode });
  });
}

/** The permit in a message. */
export function permitOf(message: PermitMessage): Permit {
  return {
    token: message.permitToken,
    fencingTokens: new Map(message.grants.map((grant) => [grant.resource, grant.fencingToken])),
    ttlMs: message.ttl && milliseconds(message.ttl),
  };
}

export function newOutcome(outcome: OutcomeOptions): PermitOutcome {
  return create(PermitOutcomeSchema, {
    failureClass: outcome.failureClass,
    retryAfter: optionalDuration(bounded(outcome.retryAfterMs), "retryAfterMs"),
    latency: optionalDuration(bounded(outcome.latencyMs), "latencyMs"),
  });
}

/** The outcome for the error of a body, classified as for a handler. */
export function outcomeOf(thrown: unknown, signal: AbortSignal): PermitOutcome {
  const isStopped = signal.aborted || (thrown instanceof Error && thrown.name === "AbortError");
  if (isStopped || thrown instanceof PermitDenied || thrown instanceof PermitLost) {
    return newOutcome({ failureClass: FailureClass.CANCELLED });
  }
  const failure = failureOf(thrown);
  return create(PermitOutcomeSchema, { failureClass: failure.failureClass, retryAfter: failure.retryAfter });
}

function asClaim(claim: AnyClaim): Claim {
  if (typeof claim === "string") {
    return { resource: claim };
  }
  return "resource" in claim ? claim : { resource: claim[0], amount: claim[1] };
}

/** Clamps a duration, because a refused release would leave the resource in use. */
function bounded(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.min(Math.max(ms, 0), LONGEST_MS);
}
