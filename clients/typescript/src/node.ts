// The parts of Node that the package uses. Only this file and test_server.ts, which starts processes,
// import from Node, so another platform replaces it alone.
import { readFileSync } from "node:fs";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { hostname } from "node:os";
import { connect as connectTls } from "node:tls";
import { Worker as Thread } from "node:worker_threads";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { Tls } from "./access.js";
import { cut } from "./documents.js";

/** The transport to one address, and how to end its connection with all its calls. */
export interface Channel {
  readonly transport: Transport;
  /** Whether a connection stands. */
  readonly isOpen: () => boolean;
  readonly abort: () => void;
}

/** Time for the server's part of the HTTP/2 handshake. It doubles with each silent connection in a row, so slow networks are enough. */
const ANSWER_MS = 1_500;
const LONGEST_ANSWER_MS = 20_000;
/**
 * Node resets a stream whose response comes while more than this waits to be sent on the connection, and the response is
 * lost. Its default, 10 MB, is less than calls in flight or one request that the server refuses can have.
 */
const SESSION_MB = 4_096;

/** gRPC over HTTP/2 to HOST:PORT. The first call connects. @param tls undefined: plaintext. */
export function openChannel(target: string, tls: Tls | undefined): Channel {
  const baseUrl = `${tls === undefined ? "http" : "https"}://${target}`;
  // Pings go out only while calls are open: servers of gRPC's core library close connections that ping more.
  const pings = { pingIntervalMs: 30_000, pingTimeoutMs: 10_000, pingIdleConnection: false };
  let silentBefore = 0;
  let current: Socket | undefined;
  const createConnection = (authority: URL): Socket => {
    const socket = openSocket(authority, tls);
    current = socket;
    const limitMs = Math.min(LONGEST_ANSWER_MS, ANSWER_MS * 2 ** silentBefore);
    const look = () => {
      if (socket.destroyed || socket.bytesRead > 0) {
        silentBefore = 0;
      } else {
        silentBefore += 1;
        const error = new Error(`no answer to HTTP/2 within ${limitMs / 1000} s`);
        // With a code, as all errors of connections.
        socket.destroy(Object.assign(error, { code: "ETIMEDOUT" }));
      }
    };
    // After what has come meanwhile: the event loop may have been blocked.
    const timer = setTimeout(() => setImmediate(look), limitMs);
    timer.unref();
    socket.once("close", () => clearTimeout(timer));
    return socket;
  };
  const sessionManager = new Http2SessionManager(baseUrl, pings, { createConnection, maxSessionMemory: SESSION_MB });
  return {
    transport: createGrpcTransport({ baseUrl, sessionManager }),
    // A program that accepts connections and says nothing is no server.
    isOpen: () => sessionManager.state() === "open" && current !== undefined && current.bytesRead > 0,
    abort: () => sessionManager.abort(),
  };
}

function openSocket({ hostname: name, port, protocol }: URL, tls: Tls | undefined): Socket {
  const host = name.replace(/^\[|\]$/g, "");
  const place = { host, port: Number(port) || (protocol === "https:" ? 443 : 80) };
  if (tls === undefined) {
    return connectTcp(place);
  }
  return connectTls({ ...place, ...nodeTls(tls), ALPNProtocols: ["h2"], servername: isIP(host) === 0 ? host : "" });
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

/** Notices from a thread that the event loop of the main one is blocked. */
export interface LoopWatch {
  /** Shows that the loop runs. @param isBusy whether anything is lost while it is blocked. */
  readonly beat: (isBusy: boolean) => void;
  readonly close: () => void;
}

/** Places of the memory that both threads see. */
const BEATS = 0;
const BUSY = 1;
const CLOSED = 2;

/**
 * Writes a line to stderr while the event loop is blocked: no other code of the program can run then.
 *
 * @param lookMs interval of the looks, and of the calls of `beat`.
 * @param blockedMs time without a beat after which the line is written, once.
 */
export function watchLoop(line: string, lookMs: number, blockedMs: number): LoopWatch {
  const seen = new Int32Array(new SharedArrayBuffer(12));
  try {
    const program = `(${watchInThread})(require("node:worker_threads").workerData, require("node:fs").writeSync)`;
    const thread = new Thread(program, {
      eval: true,
      // Not the options of the program, such as loaders.
      execArgv: [],
      workerData: { seen, line, lookMs, blockedMs, places: { BEATS, BUSY, CLOSED } },
    });
    thread.on("error", () => {});
    thread.unref();
  } catch {
    // The program may not start threads. Then the loop is watched only from within.
  }
  return {
    beat: (isBusy) => {
      Atomics.store(seen, BUSY, isBusy ? 1 : 0);
      Atomics.add(seen, BEATS, 1);
    },
    close: () => {
      Atomics.store(seen, CLOSED, 1);
      Atomics.notify(seen, CLOSED);
    },
  };
}

/** Runs in the thread, as text: it sees nothing of this file. */
function watchInThread(
  given: {
    readonly seen: Int32Array<SharedArrayBuffer>;
    readonly line: string;
    readonly lookMs: number;
    readonly blockedMs: number;
    readonly places: { readonly BEATS: number; readonly BUSY: number; readonly CLOSED: number };
  },
  write: (descriptor: number, text: string) => void,
): void {
  const { seen, places, lookMs, blockedMs } = given;
  let beats = -1;
  let since = performance.now();
  let lookedAt = since;
  let isTold = false;
  while (Atomics.wait(seen, places.CLOSED, 0, lookMs) === "timed-out") {
    const now = performance.now();
    // If this thread is late too, the process was stopped, or the machine is slow.
    const isLate = now - lookedAt > blockedMs;
    lookedAt = now;
    const found = Atomics.load(seen, places.BEATS);
    if (found !== beats || isLate || Atomics.load(seen, places.BUSY) === 0) {
      beats = found;
      since = now;
      isTold = false;
    } else if (!isTold && now - since > blockedMs) {
      isTold = true;
      write(2, `${given.line}\n`);
    }
  }
}

function nodeTls(tls: Tls): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
  const buffer = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes));
  return { ca: buffer(tls.ca), cert: buffer(tls.cert), key: buffer(tls.key) };
}
