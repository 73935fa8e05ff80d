// Address, TLS and API key of a connection: each from an option, or else from the environment.
import { type Address, isLocal, parseAddresses } from "./address.js";
import { described } from "./documents.js";
import type { Logger } from "./log.js";
import { environment, readFile } from "./node.js";

/** The path of a PEM file, or the content of one as bytes. */
export type Pem = string | Uint8Array;

/** Address and credentials of a client. Undefined options come from the environment. */
export interface AccessOptions {
  /**
   * `https://HOST:PORT`, or without TLS `http://HOST:PORT` or `HOST:PORT`. Several addresses are servers of one
   * database: one is used until it does not answer, then the next. Undefined: INTERLOCK_SERVER, else `127.0.0.1:50051`.
   */
  readonly address?: string | readonly string[] | undefined;
  /** Namespace of jobs, queues, records, resources and sessions. Undefined: INTERLOCK_NAMESPACE, else `default`. */
  readonly namespace?: string | undefined;
  /**
   * API key sent with each call. Without TLS it is sent too, with a warning in the log unless the server is on this
   * machine. Undefined: INTERLOCK_API_KEY, else none.
   */
  readonly apiKey?: string | undefined;
  /** Certificate authorities for the server's certificate. Undefined: INTERLOCK_CA, else those of Node. */
  readonly ca?: Pem | undefined;
  /** The client certificate with its chain. Undefined: INTERLOCK_CERT, else none. */
  readonly certificate?: Pem | undefined;
  /** Private key of the client certificate. Undefined: INTERLOCK_CERT_KEY. */
  readonly privateKey?: Pem | undefined;
}

/** TLS options in the form of Node. Undefined members: not given. */
export interface Tls {
  readonly ca: Uint8Array | undefined;
  readonly cert: Uint8Array | undefined;
  readonly key: Uint8Array | undefined;
}

/** Checked values of `AccessOptions` and the environment. */
export interface Access {
  readonly addresses: readonly Address[];
  /** TLS options. Undefined: plaintext. */
  readonly tls: Tls | undefined;
  readonly namespace: string | undefined;
  /** Value of the `authorization` header. Undefined: none. */
  readonly authorization: string | undefined;
}

/**
 * Reads missing options from the environment and checks all values. An empty variable counts as unset.
 *
 * @throws RangeError if a value can never work, or two options exclude each other.
 */
export function resolveAccess(options: AccessOptions, log: Logger): Access {
  const given = options.address ?? environment("INTERLOCK_SERVER") ?? "127.0.0.1:50051";
  const addresses = (typeof given === "string" ? [given] : given).flatMap(parseAddresses);
  if (addresses.length === 0) {
    throw new RangeError("address is an empty list: give at least one");
  }
  const tls = resolveTls(addresses, options);
  const key = options.apiKey ?? environment("INTERLOCK_API_KEY");
  const authorization = key === undefined ? undefined : `Bearer ${checkedKey(key)}`;
  const stranger = addresses.find((address) => !isLocal(address));
  if (authorization !== undefined && tls === undefined && stranger !== undefined) {
    log.warn(`the API key is sent unencrypted to ${stranger.text}: use an address that begins with https://`);
  }
  return { addresses, tls, namespace: options.namespace ?? environment("INTERLOCK_NAMESPACE"), authorization };
}

function resolveTls(addresses: readonly Address[], options: AccessOptions): Tls | undefined {
  const ca = options.ca ?? environment("INTERLOCK_CA");
  const isFromEnvironment = options.certificate === undefined && options.privateKey === undefined;
  const certificate = isFromEnvironment ? environment("INTERLOCK_CERT") : options.certificate;
  const privateKey = isFromEnvironment ? environment("INTERLOCK_CERT_KEY") : options.privateKey;
  if ((certificate === undefined) !== (privateKey === undefined)) {
    const missing = privateKey === undefined ? "privateKey (INTERLOCK_CERT_KEY)" : "certificate (INTERLOCK_CERT)";
    throw new RangeError(`${missing} is missing: a client certificate goes with its private key`);
  }
  const isSecure = needsTls(addresses, ca);
  if (!isSecure) {
    const useless =
      ca !== undefined ? "ca (INTERLOCK_CA)" : certificate !== undefined && "certificate (INTERLOCK_CERT)";
    if (useless) {
      throw new RangeError(`${useless} needs an address that begins with https://, not "${addresses[0]?.text}"`);
    }
    return undefined;
  }
  return {
    ca: pem(ca, "ca", "CERTIFICATE"),
    cert: pem(certificate, "certificate", "CERTIFICATE"),
    key: pem(privateKey, "privateKey", "PRIVATE KEY"),
  };
}

/** Whether the addresses use TLS. A list of several addresses without a scheme does if `ca` is given. */
function needsTls(addresses: readonly Address[], ca: Pem | undefined): boolean {
  const schemes = new Set(addresses.map((address) => address.scheme));
  if (schemes.has("https") && schemes.size > 1) {
    throw new RangeError("address has https:// beside other kinds in one list: write https:// at each of them");
  }
  return schemes.has("https") || (addresses.length > 1 && !schemes.has("http") && ca !== undefined);
}

/** The content of a PEM file. */
function pem(given: Pem | undefined, parameter: string, kind: string): Uint8Array | undefined {
  if (given === undefined) {
    return undefined;
  }
  if (typeof given !== "string" && !(given instanceof Uint8Array)) {
    throw new TypeError(`${parameter} is the path of a PEM file, or its content as bytes, not ${described(given)}`);
  }
  const content = typeof given === "string" ? readFile(given) : given;
  if (!new TextDecoder().decode(content).includes(`${kind}-----`)) {
    const where = typeof given === "string" ? `: ${JSON.stringify(given)}` : "";
    throw new RangeError(`${parameter} holds no ${kind.toLowerCase()} in PEM${where}`);
  }
  return content;
}

/** The key, if it can be sent. Errors do not show it. */
function checkedKey(key: string): string {
  if (typeof key !== "string") {
    throw new TypeError(`apiKey is a text, not ${described(key)}`);
  }
  const trimmed = key.trim();
  if (!/^[!-~]+$/.test(trimmed)) {
    throw new RangeError("apiKey (INTERLOCK_API_KEY) is empty or has a character that no key has, such as a space");
  }
  return trimmed;
}
