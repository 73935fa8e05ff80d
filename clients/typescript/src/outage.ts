// Detection of an outage, and one log line for it.
import { type InterlockError, Unavailable } from "./errors.js";
import type { Logger } from "./log.js";

/** Messages of Node for TLS handshakes that fail, with advice. */
const ADVICE: readonly (readonly [pattern: RegExp, advice: string])[] = [
  [
    /self.signed certificate|unable to (get|verify)|certificate has expired/i,
    "check `ca` (INTERLOCK_CA), and that the server's certificate is valid",
  ],
  [/does not match certificate/i, "the server's certificate is for another name than that of the address"],
  [
    /wrong version number|packet length too long|EPROTO/i,
    "if the server has no TLS, use an address that begins with http://",
  ],
  [
    /^protocol error|no answer to HTTP\/2/i,
    "another program may listen there; a server with TLS has an address with https://",
  ],
  [
    /certificate required|alert (number|bad certificate)/i,
    "the server requires a client certificate: `certificate` (INTERLOCK_CERT)",
  ],
];

/** Interval of the checks whether a connection stands again. */
const LOOK_MS = 250;

/** State of an outage: no server answers at one address. */
export class Outage {
  readonly #address: string;
  readonly #log: Logger;
  readonly #isOpen: () => boolean;
  #since: number | undefined;
  #looking: ReturnType<typeof setInterval> | undefined;

  /** @param isOpen whether a connection to the address stands. */
  constructor(address: string, log: Logger, isOpen: () => boolean) {
    this.#address = address;
    this.#log = log;
    this.#isOpen = isOpen;
  }

  /** Returns the error of one try in the form to throw. Logs the first error of an outage. */
  notice(error: InterlockError): InterlockError {
    if (!(error instanceof Unavailable) || error.reason !== "") {
      // A server answered, or the timeout passed.
      if (error.reason !== "") {
        this.end();
      }
      return error;
    }
    const advice = this.#advice(error.rawMessage);
    const text = advice === undefined ? error.rawMessage : `${error.rawMessage}; ${advice}`;
    if (this.#since === undefined) {
      this.#since = performance.now();
      this.#look();
      this.#log.warn(`no server answers at ${this.#address}, trying again: ${text}`);
    }
    return new Unavailable(error.code, `no server answers at ${this.#address}: ${text}`, {
      metadata: error.metadata,
      retryAfterMs: error.retryAfterMs,
      retryForbidden: error.retryForbidden,
      cause: error.cause,
    });
  }

  #advice(message: string): string | undefined {
    if (this.#address.startsWith("https://") && message.includes("ECONNRESET")) {
      return "another program may listen there; a server without TLS has an address with http://";
    }
    return ADVICE.find(([pattern]) => pattern.test(message))?.[1];
  }

  /** Ends the outage: a server has answered. */
  end(): void {
    if (this.#since !== undefined) {
      const seconds = ((performance.now() - this.#since) / 1000).toFixed(1);
      // As loud as its beginning.
      this.#log.warn(`a server answers at ${this.#address} again, after ${seconds} s`);
      this.close();
    }
  }

  /** Stops looking for its end. */
  close(): void {
    this.#since = undefined;
    clearInterval(this.#looking);
  }

  /** Waits for a new connection, because a call that waits for work would show the end only when there is some. */
  #look(): void {
    // A connection that stands already leads to no server, as of a proxy.
    let wasOpen = true;
    this.#looking = setInterval(() => {
      const isOpen = this.#isOpen();
      if (isOpen && !wasOpen) {
        this.end();
      }
      wasOpen = isOpen;
    }, LOOK_MS);
    // Node only: a number in other places.
    (this.#looking as { unref?: () => void }).unref?.();
  }
}
