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
    /certificate required|alert (number|bad certificate)/i,
    "the server requires a client certificate: `certificate` (INTERLOCK_CERT)",
  ],
];

/** State of an outage: no server answers at one address. */
export class Outage {
  readonly #address: string;
  readonly #log: Logger;
  #isOn = false;

  constructor(address: string, log: Logger) {
    this.#address = address;
    this.#log = log;
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
    const advice = ADVICE.find(([pattern]) => pattern.test(error.rawMessage))?.[1];
    const text = advice === undefined ? error.rawMessage : `${error.rawMessage}; ${advice}`;
    if (!this.#isOn) {
      this.#isOn = true;
      this.#log.warn(`no server answers at ${this.#address}, trying again: ${text}`);
    }
    return new Unavailable(error.code, `no server answers at ${this.#address}: ${text}`, {
      metadata: error.metadata,
      retryAfterMs: error.retryAfterMs,
      retryForbidden: error.retryForbidden,
      cause: error.cause,
    });
  }

  /** Ends the outage: a server has answered. */
  end(): void {
    if (this.#isOn) {
      this.#isOn = false;
      this.#log.info(`a server answers at ${this.#address}`);
    }
  }
}
