// Texts for times, durations, numbers and documents.
import { toJson } from "@bufbuild/protobuf";
import { type Duration, type Timestamp, timestampMs, type Value, ValueSchema } from "@bufbuild/protobuf/wkt";

/** Milliseconds since 1970. Undefined stays undefined. */
export function ms(time: Timestamp | undefined): number | undefined {
  return time && timestampMs(time);
}

/** Milliseconds. Undefined stays undefined. */
export function durationMs(duration: Duration | undefined): number | undefined {
  return duration && Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

const UNITS: readonly (readonly [name: string, ms: number])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
];

/** A duration, as in `1 h 5 min`, `12 s` or `35 ms`. */
export function duration(given: number): string {
  const value = Math.max(0, given);
  if (value < 1_000) {
    return value > 0 && value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
  }
  const rounded = Math.floor(value / 1_000) * 1_000;
  const index = UNITS.findIndex(([, size]) => rounded >= size);
  const [name = "s", size = 1_000] = UNITS[index] ?? [];
  const count = Math.floor(rounded / size);
  const [nextName, nextSize] = UNITS[index + 1] ?? [];
  const rest = nextSize === undefined ? 0 : Math.floor((rounded - count * size) / nextSize);
  return rest === 0 ? `${count} ${name}` : `${count} ${name} ${rest} ${nextName}`;
}

/** A time relative to now, as in `3 min ago` or `in 5 s`. */
export function relative(time: number, now: number): string {
  const distance = now - time;
  if (Math.abs(distance) < 1_500) {
    return "now";
  }
  // One unit is enough, and a text that changes each second is not for hours.
  const text = duration(Math.abs(distance)).split(" ").slice(0, 2).join(" ");
  return distance > 0 ? `${text} ago` : `in ${text}`;
}

/** A date and time in the local zone, as in `2026-11-30 14:05:09`. */
export function absolute(time: number): string {
  const date = new Date(time - new Date(time).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 19).replace("T", " ");
}

/** A position in a session, as in `1:02:03` or `0:07`. */
export function position(given: number): string {
  const total = Math.floor(given / 1_000);
  const [hours, minutes, seconds] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const end = `${String(minutes).padStart(hours > 0 ? 2 : 1, "0")}:${String(seconds).padStart(2, "0")}`;
  return hours > 0 ? `${hours}:${end}` : end;
}

/** A number with separators. */
export function count(value: number | bigint): string {
  return value.toLocaleString("en");
}

/** A size in bytes, as in `1.5 MiB`. */
export function bytes(given: number | bigint): string {
  const value = Number(given);
  const power = value < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  return power === 0 ? `${value} B` : `${(value / 1024 ** power).toFixed(1)} ${"_KMGT"[power]}iB`;
}

/** A share of 0 to 1 in whole percent; 100 only if it is complete. */
export function percent(share: number): string {
  return `${Math.floor(Math.min(1, Math.max(0, share)) * 100 + 1e-9)} %`;
}

/** The name of a state for people, as in `Backoff`. */
export function words(name: string | undefined): string {
  const text = (name ?? "unknown").replaceAll("_", " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The JSON of a value of a document. */
export function valueJson(value: Value): unknown {
  return toJson(ValueSchema, value);
}
