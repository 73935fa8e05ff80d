// Connect, gRPC-Web and gRPC by the transports of connect-node, against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code as ConnectCode, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { freeAddress, startServer } from "../src/testing.js";
import { JobService, JobState, WorkerService, type WorkRequestSchema } from "../src/v1.js";
import { realServer, unique, within } from "./support.js";

const real = realServer();

/** Each protocol over each version of HTTP. */
function transports(address = real.server.address, more: object = {}): [name: string, transport: Transport][] {
  const baseUrl = `http://${address}`;
  const both = (httpVersion: "1.1" | "2"): [string, Transport][] => {
    const common = { baseUrl, httpVersion, ...more };
    return [
      [`Connect, JSON, HTTP/${httpVersion}`, createConnectTransport({ ...common, useBinaryFormat: false })],
      [`Connect, proto, HTTP/${httpVersion}`, createConnectTransport({ ...common, useBinaryFormat: true })],
      [`Connect, GET, HTTP/${httpVersion}`, createConnectTransport({ ...common, useHttpGet: true })],
      [`gRPC-Web, HTTP/${httpVersion}`, createGrpcWebTransport(common)],
    ];
  };
  return [...both("1.1"), ...both("2"), ["gRPC, HTTP/2", createGrpcTransport({ baseUrl, ...more })]];
}

/** The error of a call. */
async function refusal(call: Promise<unknown>, name: string): Promise<ConnectError> {
  const result = await within(
    call.then(
      () => undefined,
      (error: unknown) => ConnectError.from(error),
    ),
    name,
  );
  assert.ok(result !== undefined, `${name}: it was not refused`);
  return result;
}

function assertReason(error: ConnectError, code: ConnectCode, reason: string, name: string): void {
  const [info] = error.findDetails(ErrorInfoSchema);
  assert.deepEqual([error.code, info?.reason, info?.domain], [code, reason, "interlock"], `${name}: ${error.message}`);
}

test("calls, streams and errors are the same by each protocol", async () => {
  for (const [name, transport] of transports()) {
    const jobs = createClient(JobService, transport);
    const jobId = unique("web");
    const { job } = await within(jobs.submitJob({ jobId, kind: "film", payload: { title: "Ü", n: 1 } }), name);
    assert.equal(job?.jobId, jobId, name);
    assert.deepEqual((await jobs.getJob({ jobId }, { timeoutMs: 20_000 })).job?.payload, { title: "Ü", n: 1 }, name);

    const kinds: (string | undefined)[] = [];
    let cancelled = false;
    for await (const { update } of jobs.watchJob({ jobId }, { timeoutMs: 20_000 })) {
      kinds.push(update.case);
      if (!cancelled) {
        cancelled = true;
        await jobs.cancelJob({ jobId });
      }
    }
    assert.deepEqual(kinds, ["snapshot", "change"], name);
    assert.equal((await jobs.getJob({ jobId })).job?.state, JobState.CANCELLED, name);
  }
});

test("errors of calls and streams have reason, field and outcome", async () => {
  for (const [name, transport] of transports()) {
    const jobs = createClient(JobService, transport);
    const missing = await refusal(jobs.getJob({ jobId: "none" }), name);
    assertReason(missing, ConnectCode.NotFound, "JOB_NOT_FOUND", name);
    assert.equal(missing.findDetails(ErrorInfoSchema)[0]?.metadata.outcome, "NOT_APPLIED", name);
    assert.match(missing.rawMessage, /none/, name);

    const stages = [{ name: "a", dependsOn: ["b"] }];
    const invalid = await refusal(jobs.submitJob({ kind: "film", stages }), name);
    assertReason(invalid, ConnectCode.InvalidArgument, "INVALID_FIELD", name);
    const fields = invalid.findDetails(BadRequestSchema).flatMap((each) => each.fieldViolations.map((it) => it.field));
    assert.deepEqual(fields, ["stages[0].depends_on[0]"], name);

    const stream = jobs.watchJob({ jobId: "none" })[Symbol.asyncIterator]();
    assertReason(await refusal(stream.next(), name), ConnectCode.NotFound, "JOB_NOT_FOUND", name);
  }
});

test("a call that is refused by its rate says when to repeat it", async () => {
  const limited = await startServer({ flags: ["--rate-limit-read", "1/h"] });
  try {
    for (const [name, transport] of transports(limited.address)) {
      const jobs = createClient(JobService, transport);
      let error = await refusal(jobs.getJob({ jobId: "none" }), name);
      for (let tries = 0; error.code === ConnectCode.NotFound; tries += 1) {
        assert.ok(tries < 100, `${name}: ${error.message}`);
        error = await refusal(jobs.getJob({ jobId: "none" }), name);
      }
      assertReason(error, ConnectCode.ResourceExhausted, "RATE_LIMITED", name);
      const seconds = Number(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds ?? 0);
      assert.ok(seconds > 0 && seconds <= 3_600, `${name}: ${seconds} s`);
      assert.match(error.metadata.get("grpc-retry-pushback-ms") ?? "", /^-?\d+$/, name);
    }
  } finally {
    await limited.stop();
  }
});

test("a deadline ends a stream, and a wait ends without an error", async () => {
  const check = async ([name, transport]: [string, Transport]) => {
    const jobs = createClient(JobService, transport);
    const jobId = unique("late");
    await jobs.submitJob({ jobId, kind: "film" });
    const kinds: (string | undefined)[] = [];
    const watched = async () => {
      for await (const { update } of jobs.watchJob({ jobId }, { timeoutMs: 2_000 })) {
        kinds.push(update.case);
      }
    };
    const error = await refusal(watched(), name);
    assert.deepEqual([error.code, kinds], [ConnectCode.DeadlineExceeded, ["snapshot"]], `${name}: ${error.message}`);
    const waited = await jobs.waitJob({ jobId, wait: { nanos: 300_000_000 } }, { timeoutMs: 20_000 });
    assert.equal(waited.job?.state, JobState.PENDING, name);
  };
  await Promise.all(transports().map(check));
});

test("a stream that is cut by a killed server resumes after its last version", async () => {
  const address = await freeAddress();
  const first = await real.server.beside({ address });
  const watches: { name: string; jobId: string; watch: AsyncIterator<unknown>; transport: Transport }[] = [];
  for (const [name, transport] of transports(address)) {
    const jobId = unique("cut");
    const jobs = createClient(JobService, transport);
    await within(jobs.submitJob({ jobId, kind: "film", stages: [{ name: "voice", queue: jobId }] }), name);
    const watch = jobs.watchJob({ jobId })[Symbol.asyncIterator]();
    const { value } = await within(watch.next(), name);
    assert.equal(value?.update.case === "snapshot" && value.update.value.version, 1n, name);
    watches.push({ name, jobId, watch, transport });
  }
  await first.kill();
  const [, grpc] = transports().at(-1) ?? [];
  assert.ok(grpc !== undefined);
  const worker = createClient(WorkerService, grpc);
  for (const { name, jobId, watch } of watches) {
    const { code, details } = await refusal(watch.next(), name);
    // The server said nothing, so that the error is of the client.
    const ofClient = [ConnectCode.Unavailable, ConnectCode.Canceled, ConnectCode.Unknown, ConnectCode.Internal];
    assert.ok([...ofClient, ConnectCode.Aborted, ConnectCode.DataLoss].includes(code), `${name}: ${ConnectCode[code]}`);
    assert.deepEqual(details, [], name);
    const { leases } = await worker.leaseStages({ workerId: "w", queues: [jobId] });
    const leaseToken = leases[0]?.leaseToken ?? "";
    await worker.completeStage({ target: { target: { case: "leaseToken", value: leaseToken } } });
  }
  const second = await real.server.beside({ address });
  for (const { name, jobId, transport } of watches) {
    const versions: bigint[] = [];
    for await (const { update } of createClient(JobService, transport).watchJob({ jobId, fromVersion: 1n })) {
      assert.ok(update.case === "change" || update.case === "keepalive", `${name}: ${update.case}`);
      if (update.case === "change") {
        versions.push(update.value.previousVersion, update.value.version);
      }
    }
    assert.deepEqual(versions, [1n, 2n, 2n, 3n], name);
  }
  await second.stop();
});

test("compressed and large requests are refused", async () => {
  const gzip = { sendCompression: compressionGzip, compressMinBytes: 1 };
  for (const [name, transport] of transports(real.server.address, gzip)) {
    const error = await refusal(createClient(JobService, transport).submitJob({ kind: "film" }), name);
    assert.equal(error.code, ConnectCode.Unimplemented, `${name}: ${error.message}`);
  }
  for (const [name, transport] of transports()) {
    const payload = { text: "x".repeat(4 << 20) };
    const error = await refusal(createClient(JobService, transport).submitJob({ kind: "film", payload }), name);
    assertReason(error, ConnectCode.InvalidArgument, "INVALID_FIELD", name);
  }
});

test("Connect refuses streams of both directions", async () => {
  async function* begin(): AsyncGenerator<MessageInitShape<typeof WorkRequestSchema>> {
    yield { begin: { workerId: "w", queues: [unique("none")] } };
  }
  for (const [name, transport] of transports()) {
    const opened = createClient(WorkerService, transport).work(begin(), { timeoutMs: 20_000 });
    const first = opened[Symbol.asyncIterator]().next();
    if (!name.startsWith("Connect")) {
      assert.equal((await within(first, name)).done, false, name);
    } else {
      const error = await refusal(first, name);
      assert.equal(error.code, ConnectCode.Unimplemented, `${name}: ${error.message}`);
    }
  }
});
