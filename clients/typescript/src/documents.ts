// Conversion between JavaScript values and documents (`google.protobuf.Struct`), values and durations of messages.
import { create, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";

export type { JsonObject, JsonValue };

/** Levels of objects and lists that the server accepts. */
const DEPTH = 32;
/** Bytes of artifacts, results and details as JSON that the server accepts. */
export const DOCUMENT_BYTES = 64 * 1024;
/** Characters of a path that an error shows. */
const PATH_CHARACTERS = 200;
/** 10,000 years, the most that `google.protobuf.Duration` holds. */
const LONGEST_DURATION_MS = 315_576_000_000_000;

/**
 * A checked copy of an object as JSON. As in `JSON.stringify`, members that are undefined are left out and
 * values with `toJSON`, such as a Date, become what it returns. A bigint within ±2^53 becomes a number.
 *
 * @param limit bytes as JSON; an object that is clearly larger is refused here, others by the server. Undefined: no
 *   limit.
 * @throws TypeError if it is not an object, or a value in it is not JSON; the message names the place.
 */
export function toDocument(value: object, limit?: number): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`a document is an object, not ${described(value)}`);
  }
  const copy = new Writer(limit).value(value, "", 0);
  if (typeof copy !== "object" || copy === null || Array.isArray(copy)) {
    throw new TypeError(`a document is an object, not ${described(value)}`);
  }
  return copy;
}

/**
 * A copy of a value as JSON, checked as in `toDocument`.
 *
 * @param path place of the value, for errors.
 * @throws TypeError if a value in it is not JSON.
 */
export function toJsonValue(value: unknown, path: string): JsonValue {
  return new Writer(undefined).value(value, path, 0);
}

/**
 * Milliseconds as a message.
 *
 * @param parameter name of the option, for errors.
 * @throws RangeError if it is not a finite number, or is beyond 10,000 years.
 */
export function toDuration(ms: number, parameter: string): Duration {
  if (typeof ms !== "number" || !(Math.abs(ms) <= LONGEST_DURATION_MS)) {
    throw new RangeError(`${parameter} is a number of milliseconds, not ${String(ms)}`);
  }
  const nanoseconds = BigInt(Math.round(ms * 1e6));
  return create(DurationSchema, {
    seconds: nanoseconds / 1_000_000_000n,
    nanos: Number(nanoseconds % 1_000_000_000n),
  });
}

/** As `toDuration`; undefined stays undefined. */
export function optionalDuration(ms: number | undefined, parameter: string): Duration | undefined {
  return ms === undefined ? undefined : toDuration(ms, parameter);
}

/** Duration in milliseconds. */
export function milliseconds(duration: Duration): number {
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/**
 * A wait in milliseconds; negative values become 0.
 *
 * @throws RangeError if it is not a number.
 */
export function waitMs(given: number, parameter: string): number {
  if (typeof given !== "number" || Number.isNaN(given)) {
    throw new RangeError(`${parameter} is a number of milliseconds, not ${String(given)}`);
  }
  return Math.max(0, given);
}

/** An int64 option given as bigint or number. Undefined stays undefined. */
export function toInt64(value: bigint | number | undefined, parameter: string): bigint | undefined {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(`${parameter} is a whole number within ±2^53 or a bigint, not ${value}`);
  }
  return value === undefined ? undefined : BigInt(value);
}

/** The kind of a value, for errors. */
export function described(value: unknown): string {
  if (value === null || value === undefined) {
    return String(value);
  }
  if (typeof value === "object") {
    return Array.isArray(value) ? "an array" : `an object of class ${value.constructor?.name ?? "without a name"}`;
  }
  return `a ${typeof value}`;
}

/** The beginning of a text, at most `limit` bytes of UTF-8, without the characters that the server refuses. */
export function cut(text: string, limit: number): string {
  const bytes = new TextEncoder().encode(text.slice(0, limit).replaceAll("\0", ""));
  // `stream` leaves out a character that is cut in two.
  return new TextDecoder().decode(bytes.subarray(0, limit), { stream: true });
}

/** Copies values and counts their bytes as JSON. */
class Writer {
  readonly #limit: number | undefined;
  /** Lower bound of the JSON bytes written so far: commas and escapes are not counted. */
  #bytes = 0;

  constructor(limit: number | undefined) {
    this.#limit = limit;
  }

  value(given: unknown, path: string, depth: number): JsonValue {
    const value = replaced(given);
    switch (typeof value) {
      case "boolean":
        this.#count(4, path);
        return value;
      case "string":
        return this.#text(value, path);
      case "number":
      case "bigint":
        this.#count(1, path);
        return finite(value, path);
      case "object":
        if (value === null) {
          this.#count(4, path);
          return null;
        }
        return Array.isArray(value) ? this.#list(value, path, depth + 1) : this.#object(value, path, depth + 1);
      default:
        throw new TypeError(`${at(path)}${described(value)} cannot be part of a document`);
    }
  }

  #list(list: readonly unknown[], path: string, depth: number): JsonValue[] {
    this.#enter(path, depth);
    return list.map((item, index) => this.value(item, `${path}[${index}]`, depth));
  }

  #object(object: object, path: string, depth: number): JsonObject {
    if (object instanceof Map || object instanceof Set || ArrayBuffer.isView(object) || object instanceof Promise) {
      throw new TypeError(`${at(path)}${described(object)} cannot be part of a document; plain objects can`);
    }
    this.#enter(path, depth);
    const copy: JsonObject = {};
    for (const [key, item] of Object.entries(object)) {
      if (item === undefined) {
        continue;
      }
      const inner = path === "" ? key : `${path}.${key}`;
      this.#text(key, inner);
      this.#count(1, inner);
      if (key === "__proto__") {
        throw new TypeError(`${at(inner)}a key \`__proto__\` would be lost on its way; choose another one`);
      }
      const value = this.value(item, inner, depth);
      copy[key] = value;
    }
    return copy;
  }

  #enter(path: string, depth: number): void {
    if (depth > DEPTH) {
      throw new TypeError(`${at(path)}objects and lists are nested more than ${DEPTH} levels deep, or in a circle`);
    }
    this.#count(2, path);
  }

  #text(text: string, path: string): string {
    if (text.includes("\0")) {
      throw new TypeError(`${at(path)}a NUL character is not allowed`);
    }
    if (/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/.test(text)) {
      throw new TypeError(`${at(path)}the text has half of a surrogate pair, which UTF-8 does not have`);
    }
    this.#count(text.length + 2, path);
    return text;
  }

  #count(bytes: number, path: string): void {
    this.#bytes += bytes;
    if (this.#limit !== undefined && this.#bytes > this.#limit) {
      throw new TypeError(`${at(path)}the document has more than ${this.#limit} bytes as JSON up to here`);
    }
  }
}

/** Result of `toJSON` if the value has it, else the value. */
function replaced(value: unknown): unknown {
  if (typeof value === "object" && value !== null && "toJSON" in value && typeof value.toJSON === "function") {
    return value.toJSON("");
  }
  return value;
}

function finite(value: number | bigint, path: string): number {
  const number = Number(value);
  if (!Number.isFinite(number)) {
    throw new TypeError(`${at(path)}JSON has no ${value}`);
  }
  if (typeof value === "bigint" && BigInt(number) !== value) {
    throw new TypeError(`${at(path)}${value} is a whole number that no double holds; send it as text`);
  }
  return number;
}

/** The beginning of an error about the value at a path. */
function at(path: string): string {
  const shown = path.length > PATH_CHARACTERS ? `${path.slice(0, PATH_CHARACTERS)}…` : path;
  // Keys can contain unprintable characters.
  return shown === "" ? "" : `${JSON.stringify(shown).slice(1, -1)}: `;
}
