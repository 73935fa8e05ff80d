// Submits a job with the text of its arguments, follows it to its end, and prints the artifacts.
import { Client, JobState, StageState } from "interlock-client";
import { stages } from "./stages.js";

await using client = new Client();
const submitted = await client.submitJob("text", { stages: stages(process.argv.slice(2).join(" ")) });
console.log(`job ${submitted.jobId}; if it does not start: interlock explain ${submitted.jobId}`);
for await (const { state, progress, running } of client.progress(submitted)) {
  const stage = running.map(({ name, message }) => `${name}: ${message || "starts"}`).join(", ");
  console.log(`${JobState[state]}  ${Math.floor(progress * 100)}%  ${stage}`.trimEnd());
}
const job = await client.getJob(submitted.jobId);
for (const { name, state, artifacts, failure } of job.stages) {
  console.log(name, StageState[state], artifacts ?? {}, failure?.message ?? "");
}
process.exitCode = job.state === JobState.SUCCEEDED ? 0 : 1;
