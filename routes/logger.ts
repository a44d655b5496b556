/** The service's log: one JSON object a line, for machines first. */

import type { LogLevel } from "../config.ts";

const severities: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/** What a line may carry beside its message; never tokens, photos, prompts or embeddings. */
export type LogFields = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/** Writes one line: `log("info", "listening", { port: 8080 })`. */
export type Logger = (level: LogLevel, message: string, fields?: LogFields) => void;

/** What {@linkcode createLogger} needs. */
export interface LoggerOptions {
  /** lines below it are dropped */
  readonly level: LogLevel;
  /** takes one line without its newline; default standard error, so that tasks may print results on standard output */
  readonly write?: (line: string) => void;
  readonly now?: () => Date;
}

/**
 * Makes a logger.
 *
 * @param options least level, and where lines go
 * @returns a function that writes one line a call
 *
 * @example
 * ```ts
 * const log = createLogger({ level: "info" });
 * log("warn", "the development key signs tokens"); // {"time":"…","level":"warn","message":"the development …"}
 * ```
 */
export function createLogger(options: LoggerOptions): Logger {
  const { level: least, write, now = () => new Date() } = options;
  return (level, message, fields = {}) => {
    if (severities[level] < severities[least]) return;
    const line = JSON.stringify({ time: now().toISOString(), level, message, ...fields });
    if (write !== undefined) write(line);
    // both go to standard error; OpenTelemetry exports them as severities of their own
    else if (level === "error") console.error(line);
    else console.warn(line);
  };
}

/**
 * Where an unexpected error came from, without its message: a message may quote the request.
 *
 * @param error what was thrown
 * @returns its class and its stack's frames
 */
export function errorFields(error: unknown): LogFields {
  if (!(error instanceof Error)) return { error: typeof error };
  const frames = (error.stack ?? "").split("\n").map((line) => line.trim()).filter((line) =>
    line.startsWith("at ")
  );
  return { error: error.name, stack: frames };
}
