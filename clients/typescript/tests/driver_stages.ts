// Stages of the scenarios of clients/conformance, which have the names of the protos and times in seconds.
import { StageOnFailure, type StageOptions } from "../src/index.js";

interface GivenPolicy {
  readonly max_attempts?: number;
  readonly initial_backoff?: number;
  readonly jitter?: number;
}

interface GivenStage {
  readonly name: string;
  readonly queue?: string;
  readonly depends_on?: string[];
  readonly input?: object;
  readonly lease_duration?: number;
  readonly on_failure?: keyof typeof StageOnFailure;
  readonly retry_policy?: GivenPolicy;
  readonly direct?: boolean;
}

/** The stage as options of the client. */
export function stageOptions(given: GivenStage): StageOptions {
  const policy = given.retry_policy;
  return {
    name: given.name,
    queue: given.queue,
    dependsOn: given.depends_on,
    input: given.input,
    leaseDurationMs: milliseconds(given.lease_duration),
    onFailure: given.on_failure && StageOnFailure[given.on_failure],
    direct: given.direct,
    retryPolicy: policy && {
      maxAttempts: policy.max_attempts,
      initialBackoffMs: milliseconds(policy.initial_backoff),
      jitterMs: milliseconds(policy.jitter),
    },
  };
}

function milliseconds(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}
