// The address of a server, checked before anything is sent; errors say what to write instead.
import { described } from "./documents.js";

const EXAMPLE = '"127.0.0.1:50051"';
const PORTS = { http: 80, https: 443 };

/** A parsed address of one server. */
export interface Address {
  /** Address as the caller wrote it. */
  readonly text: string;
  /** Host, colon and port; IPv6 addresses in brackets. */
  readonly target: string;
  /** Scheme of the URL. Undefined: none given. */
  readonly scheme: "http" | "https" | undefined;
}

/**
 * The addresses in a text: one `http://`, `https://` or HOST:PORT, or several as `ipv4:HOST:PORT,HOST:PORT`, as for the
 * Python client.
 *
 * @throws TypeError if it is not a string.
 * @throws RangeError if an address can never work, such as one without a port.
 */
export function parseAddresses(text: string): readonly Address[] {
  if (typeof text !== "string") {
    throw new TypeError(`an address is a text such as ${EXAMPLE}, not ${described(text)}`);
  }
  const list = /^ipv[46]:(.*)$/i.exec(text);
  return list === null ? [parseAddress(text)] : (list[1] ?? "").split(",").map(parseAddress);
}

/** Whether an address leads to this machine alone. */
export function isLocal(address: Address): boolean {
  const host = address.target.slice(0, address.target.lastIndexOf(":"));
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(host);
}

function parseAddress(text: string): Address {
  const url = /^(https?):\/\/(.*?)\/?$/i.exec(text);
  if (url === null) {
    return { text, target: checked(text, text, ""), scheme: undefined };
  }
  const scheme = url[1]?.toLowerCase() === "https" ? "https" : "http";
  const host = url[2] ?? "";
  const hasPort = host === "" || isIpv6(host) || /:\d+$/.test(host);
  return { text, target: checked(hasPort ? host : `${host}:${PORTS[scheme]}`, text, `${scheme}://`), scheme };
}

function checked(target: string, text: string, start: string): string {
  const fault = faultOf(target, start);
  if (fault !== undefined) {
    throw new RangeError(`the address ${JSON.stringify(text)} ${fault}`);
  }
  return target;
}

/** The fault of a HOST:PORT, with a correct example that begins with `start`. */
function faultOf(target: string, start: string): string | undefined {
  const colon = target.lastIndexOf(":");
  const host = target.slice(0, Math.max(0, colon));
  const port = target.slice(colon + 1);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/i.exec(target);
  if (scheme !== null) {
    return `begins with ${scheme[1]}://, which is no kind of address: write http://${scheme[2]} or https://${scheme[2]}`;
  }
  if (/[\s/@?#,]/.test(target)) {
    return `has a character that no host has: write host and port, such as ${EXAMPLE}`;
  }
  if (isIpv6(target)) {
    return `is an IPv6 address without a port: write "${start}[${target}]:50051", if that is the port of the server`;
  }
  if (colon < 0 || target.endsWith("]")) {
    return `has no port: write "${start}${target || "127.0.0.1"}:50051", if that is the port of the server`;
  }
  if (host === "") {
    return `has no host: write "${start}127.0.0.1:${port}" for a server on this machine`;
  }
  if (host.includes(":") && !/^\[.*\]$/.test(host)) {
    return `is an IPv6 address without brackets: write "${start}[${host}]:${port}"`;
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    return `has no port from 1 to 65535 after its colon: write host and port, such as ${EXAMPLE}`;
  }
  return undefined;
}

/** Whether a text is an IPv6 address, without brackets and port. */
function isIpv6(text: string): boolean {
  if (!/^[0-9a-f:.]+$/i.test(text) || text.split(":").length < 3) {
    return false;
  }
  return URL.canParse?.(`http://[${text}]`) ?? true;
}
