// TLS, client certificates and API keys against the real server.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import {
  Client,
  type ClientOptions,
  JobState,
  PermissionDenied,
  Unauthenticated,
  Unavailable,
  Worker,
} from "../src/index.js";
import { startServer, type TestServer } from "../src/testing.js";
import { Lines, unique, within, working } from "./support.js";

const run = promisify(execFile);
let folder: string;
let server: TestServer;
const file = (name: string) => join(folder, name);

/** Makes a certificate with openssl. `issuer`: its authority; undefined: it is one itself. */
async function certify(name: string, issuer: string | undefined, ...extensions: readonly string[]): Promise<void> {
  const signed = issuer === undefined ? [] : ["-CA", file(`${issuer}.pem`), "-CAkey", file(`${issuer}.key`)];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file(`${name}.key`)];
  const added = extensions.flatMap((extension) => ["-addext", extension]);
  const subject = ["-days", "2", "-subj", `/CN=${name}`];
  await run("openssl", ["req", "-x509", ...subject, ...added, ...signed, ...key, "-out", file(`${name}.pem`)]);
}

/** The token of a new key, made on the database alone. */
async function newKey(role: string): Promise<string> {
  const args = ["key", "create", "--label", "test", "--role", role, "--namespaces", "*"];
  const environment = { ...process.env, INTERLOCK_DATABASE_URL: server.databaseUrl };
  const { stdout } = await run(process.env.INTERLOCK_BIN ?? "interlock", args, { env: environment });
  return stdout.trim().split("\n").at(-1)?.trim() ?? "";
}

/** A client that shows its certificate, for the time of a body. */
async function withClient(options: ClientOptions, body: (client: Client) => Promise<void>): Promise<void> {
  const shown = { certificate: file("client.pem"), privateKey: file("client.key") };
  const address = `https://${server.address}`;
  const client = new Client({ address, ca: file("ca.pem"), log: null, ...shown, ...options });
  try {
    await body(client);
  } finally {
    await client.close();
  }
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "interlock-tls-"));
  const leaf = "basicConstraints=critical,CA:FALSE";
  await certify("ca", undefined, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign");
  await certify("other", undefined, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign");
  await certify("server", "ca", leaf, "subjectAltName=DNS:localhost,IP:127.0.0.1");
  await certify("client", "ca", leaf, "subjectAltName=DNS:client");
  const tls = ["--tls-cert", file("server.pem"), "--tls-key", file("server.key"), "--tls-client-ca", file("ca.pem")];
  server = await startServer({ flags: [...tls, "--auth", "required"] });
});

after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

test("a job is submitted, watched and done over TLS with a key", async () => {
  await withClient({ apiKey: await newKey("admin") }, async (client) => {
    const queue = unique("q");
    await working(
      client,
      queue,
      () => ({ done: true }),
      async () => {
        const job = await client.submitJob("film", { stages: [{ name: "main", queue }] });
        const states = [];
        for await (const update of client.watch(job, { signal: AbortSignal.timeout(20_000) })) {
          states.push(update.job.state);
        }
        assert.equal(states.at(-1), JobState.SUCCEEDED);
      },
    );
  });
});

test("certificates can be given as bytes, and the key by the environment", async (t) => {
  process.env.INTERLOCK_API_KEY = await newKey("read");
  t.after(() => {
    delete process.env.INTERLOCK_API_KEY;
  });
  await withClient({ ca: await readFile(file("ca.pem")) }, async (client) => {
    for await (const job of client.listJobs('kind = "none"')) {
      assert.fail(job.jobId);
    }
  });
});

test("a key that is missing, unknown or not permitted fails at once, and ends watches and workers", async () => {
  await withClient({ apiKey: "il_unknown" }, async (client) => {
    await assert.rejects(within(client.getJob("a")), Unauthenticated);
    await assert.rejects(within(client.watch("a").next()), Unauthenticated);
    const running = new Worker(client, ["q"], { handleSignals: false }).run(() => {});
    await assert.rejects(within(running), Unauthenticated);
  });
  await withClient({ apiKey: await newKey("read") }, async (client) => {
    await assert.rejects(within(client.submitJob("film")), (error) => {
      assert.ok(error instanceof PermissionDenied);
      assert.match(error.roles, /submit|admin|write|work/);
      return true;
    });
  });
});

test("TLS that fails says what to do", async () => {
  const attempts: [ClientOptions, RegExp][] = [
    [{ ca: file("other.pem") }, /check `ca` \(INTERLOCK_CA\)/],
    [{ address: `https://localhost.localdomain:${server.address.split(":")[1]}` }, /no server answers at/],
  ];
  for (const [options, advice] of attempts) {
    const lines = new Lines();
    await withClient({ ...options, log: lines }, async (client) => {
      await assert.rejects(within(client.getJob("a", { timeoutMs: 500 })), (error) => {
        assert.ok(error instanceof Unavailable, String(error));
        assert.match(error.message, advice);
        return true;
      });
    });
    assert.match(lines.lines[0] ?? "", advice);
  }
});
