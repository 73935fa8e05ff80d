// Works on the stages of the queue until Ctrl-C or SIGTERM.
import { Client, Worker } from "interlock-client";
import { handle, QUEUE } from "./stages.js";

await using client = new Client();
await new Worker(client, [QUEUE], { concurrency: 4 }).run(handle);
