// The logger for background events.

/** A logger for lines in plain text. Any logger with these three methods fits, such as `console`, pino or winston. */
export interface Logger {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

// biome-ignore lint/suspicious/noConsole: this is the one place that writes to it.
const write = (line: string) => console.error(`interlock: ${line}`);

/** Writes to stderr, so that the output of a program stays its own. */
export const stderrLogger: Logger = {
  info: (message) => write(message),
  warn: (message) => write(`warning: ${message}`),
  error: (message) => write(`error: ${message}`),
};

/** Writes nothing. */
export const silentLogger: Logger = { info: () => {}, warn: () => {}, error: () => {} };
