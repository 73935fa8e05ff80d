// The client: calls for jobs, records, sessions and permits, and commits of several requests.
import type { CallOptions } from "./connection.js";
import { type CommitResult, TransactionService } from "./gen/interlock/v1/transaction_service_pb.js";
import { callOptions } from "./job_calls.js";
import { PermitCalls } from "./permit_calls.js";
import { type CommitRequestPart, commitOperations } from "./records.js";

/** Lease and permit that must be held for a commit. */
export interface CommitOptions extends CallOptions {
  /** A lease token, such as `attempt.lease.leaseToken`: applied only while that lease is held. Undefined: none. */
  readonly leaseFence?: string | undefined;
  /** A permit token: applied only while that permit is held. `permitRelease` can end it with the commit. Undefined: none. */
  readonly permitFence?: string | undefined;
}

/**
 * A connection to one server, or to several of one database.
 *
 * All calls add a request id where the request has room for one, retry retryable errors until `timeoutMs` is over, and
 * then throw an `InterlockError` of the class for the reason. Every rpc of the protos can be called by `call`.
 *
 * Numbers of type int64 (versions, fencing tokens) are bigint in results; options take numbers too.
 * Documents (payload, input, artifacts, fields) are plain objects.
 */
export class Client extends PermitCalls {
  /**
   * Applies several requests in one commit, all or none.
   *
   * @param requests made by `recordUpdate`, `recordDeletion`, `jobSubmission`, `permitRelease`, `Session.appending`, or any
   *   message of `CommitOperation`.
   * @throws LeaseLost if the lease is not held.
   * @throws PermitLost if the permit is not held.
   * @throws InterlockError the error of one request; `metadata.index` is its position.
   */
  async commit(requests: readonly CommitRequestPart[], options: CommitOptions = {}): Promise<readonly CommitResult[]> {
    const request = {
      operations: commitOperations(requests),
      leaseFence: options.leaseFence,
      permitFence: options.permitFence,
    };
    const ended = requests.flatMap((part) =>
      part.$typeName === "interlock.v1.ReleasePermitRequest" ? [part.permitToken] : [],
    );
    return await this.keeper.ending(ended, async () => {
      return (await this.call(TransactionService.method.commit, request, callOptions(options))).results;
    });
  }
}
