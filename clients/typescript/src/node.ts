// The parts of Node that the package uses. Only this file imports from Node, so another platform replaces it alone.
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { Tls } from "./access.js";
import { cut } from "./documents.js";

/** The transport to one address, and how to end its connection with all its calls. */
export interface Channel {
  readonly transport: Transport;
  readonly abort: () => void;
}

/** gRPC over HTTP/2 to HOST:PORT. The first call connects. @param tls undefined: plaintext. */
export function openChannel(target: string, tls: Tls | undefined): Channel {
  const baseUrl = `${tls === undefined ? "http" : "https"}://${target}`;
  // Pings go out only while calls are open: servers of gRPC's core library close connections that ping more.
  const pings = { pingIntervalMs: 30_000, pingTimeoutMs: 10_000, pingIdleConnection: false };
  const sessionManager = new Http2SessionManager(baseUrl, pings, tls === undefined ? undefined : nodeTls(tls));
  return {
    transport: createGrpcTransport({ baseUrl, sessionManager }),
    abort: () => sessionManager.abort(),
  };
}

/** A variable of the environment. Undefined: not set, or empty. */
export function environment(name: string): string | undefined {
  return process.env[name] || undefined;
}

export function readFile(path: string): Uint8Array {
  return readFileSync(path);
}

/** Name of this process: host and process id, at most 128 bytes. */
export function hostAndProcess(): string {
  return cut(`${hostname()}:${process.pid}`, 128);
}

/** Calls `stop` on SIGTERM and SIGINT, in place of ending the process. Returns a function that undoes it. */
export function onShutdownSignals(stop: () => void): () => void {
  const signals = ["SIGTERM", "SIGINT"] as const;
  for (const signal of signals) {
    process.on(signal, stop);
  }
  return () => {
    for (const signal of signals) {
      process.off(signal, stop);
    }
  };
}

function nodeTls(tls: Tls): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
  const buffer = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes));
  return { ca: buffer(tls.ca), cert: buffer(tls.cert), key: buffer(tls.key) };
}
