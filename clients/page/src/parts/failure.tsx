// A failure with its traceback.
import { type Failure, FailureClass } from "../client/gen/interlock/v1/common_pb.js";
import { duration, durationMs, ms, words } from "../logic/format.js";
import { Ago, Json, LongText, Text } from "./basics.js";

export function FailureBox({ failure, title }: { readonly failure: Failure | undefined; readonly title: string }) {
  if (failure === undefined) {
    return null;
  }
  const { traceback, ...details } = failure.details ?? {};
  const wait = durationMs(failure.retryWait);
  return (
    <div class="failure">
      <p>
        <strong>{title}</strong>
        {failure.stageName !== "" && (
          <>
            {" in "}
            <Text value={failure.stageName} />
          </>
        )}
        {": "}
        {words(FailureClass[failure.failureClass])}
        {failure.code !== "" && (
          <>
            {" · "}
            <Text value={failure.code} />
          </>
        )}
        {failure.attempt > 0 && ` · attempt ${failure.attempt} of ${failure.maxAttempts}`}
        {failure.failureTime && (
          <>
            {" · "}
            <Ago at={ms(failure.failureTime)} />
          </>
        )}
        {wait !== undefined && ` · next attempt after ${duration(wait)}`}
      </p>
      {failure.message !== "" && <LongText value={failure.message} code />}
      {typeof traceback === "string" && (
        <details>
          <summary>Traceback</summary>
          <LongText value={traceback} code />
        </details>
      )}
      {Object.keys(details).length > 0 && (
        <details>
          <summary>Details</summary>
          <Json value={details} />
        </details>
      )}
    </div>
  );
}
