// The filter of jobs that the server understands, from the fields of the form.

/** The fields of the form. Empty ones do not filter. */
export interface JobFields {
  /** Names of states, as in `RUNNING`. */
  readonly states: readonly string[];
  readonly kind: string;
  /** `KEY=VALUE`, several separated by commas. */
  readonly labels: string;
}

/** Quotes a value. */
export function quoted(value: string): string {
  return `"${value.replace(/[\\"]/g, "\\$&")}"`;
}

/** The filter. Empty: all jobs. */
export function jobFilter(fields: JobFields): string {
  const parts: string[] = [];
  if (fields.states.length > 0) {
    const states = fields.states.map((state) => `state = ${state}`).join(" OR ");
    parts.push(fields.states.length > 1 ? `(${states})` : states);
  }
  if (fields.kind.trim() !== "") {
    parts.push(`kind = ${quoted(fields.kind.trim())}`);
  }
  for (const label of fields.labels.split(",")) {
    const [key = "", ...value] = label.split("=");
    if (key.trim() !== "" && value.length > 0) {
      parts.push(`labels.${key.trim()} = ${quoted(value.join("=").trim())}`);
    }
  }
  return parts.join(" AND ");
}
