// The stages of a job, and the handler that works on them.
import { setTimeout as sleep } from "node:timers/promises";
import { type Attempt, FailureClass, StageError, type StageOptions } from "interlock-client";

export const QUEUE = "{{name}}";

/** Input of the stage `count`. */
interface Text {
  readonly text: string;
  readonly msPerWord: number;
}

/** The stages of a job: `average` starts when `count` has succeeded. */
export function stages(text: string, msPerWord = 300): StageOptions[] {
  const input: Text = { text, msPerWord };
  return [
    { name: "count", queue: QUEUE, input },
    { name: "average", queue: QUEUE, dependsOn: ["count"] },
  ];
}

/** Works on a stage, and returns its artifacts. */
export async function handle(attempt: Attempt): Promise<object> {
  switch (attempt.stageName) {
    case "count":
      return await count(attempt, attempt.input as unknown as Text);
    case "average":
      return average(attempt);
    default:
      throw new StageError(FailureClass.CLIENT_ERROR, `no handler for the stage ${attempt.stageName}`);
  }
}

/** Counts the words and letters of a text, slowly. */
async function count(attempt: Attempt, { text, msPerWord }: Text): Promise<object> {
  const words = text.split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) {
    // A failure with a class. CLIENT_ERROR is not retried, because the same input would fail again.
    throw new StageError(FailureClass.CLIENT_ERROR, "the text has no words", { code: "NO_WORDS" });
  }
  let letters = 0;
  try {
    for (const [index, word] of words.entries()) {
      await sleep(msPerWord, undefined, { signal: attempt.signal }); // real work goes here
      letters += word.length;
      attempt.report((index + 1) / words.length, `${index + 1} of ${words.length} words`);
    }
  } catch (error) {
    if (attempt.signal.aborted) {
      // The job is cancelled, the lease is lost or the worker stops.
      console.error(`count stops after ${letters} letters: ${attempt.stopReason}`);
    }
    throw error;
  }
  return { words: words.length, letters };
}

/** Computes the mean length of the words. */
function average(attempt: Attempt): object {
  const counted = attempt.dependencies.get("count")?.artifacts as { words: number; letters: number };
  return { lettersPerWord: counted.letters / counted.words };
}
