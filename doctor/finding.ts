/** What a check finds. */

/** One line of the report. */
export interface Finding {
  /** what was checked; stable, for programs */
  readonly check: string;
  /** `warning` does not keep the service from starting */
  readonly status: "ok" | "warning" | "failed";
  /** what was found; holds no secret */
  readonly detail: string;
  /** what to do about it; null when it is fine */
  readonly remedy: string | null;
}

/**
 * What is fine.
 *
 * @param check what was checked
 * @param detail what was found
 */
export function fine(check: string, detail: string): Finding {
  return { check, status: "ok", detail, remedy: null };
}

/**
 * What the service can live with.
 *
 * @param check what was checked
 * @param detail what was found
 * @param remedy what to do about it
 */
export function warning(check: string, detail: string, remedy: string): Finding {
  return { check, status: "warning", detail, remedy };
}

/**
 * What keeps the service from working.
 *
 * @param check what was checked
 * @param detail what was found
 * @param remedy what to do about it
 */
export function failed(check: string, detail: string, remedy: string): Finding {
  return { check, status: "failed", detail, remedy };
}

/**
 * The message of whatever was thrown.
 *
 * @param error what was thrown
 * @returns its message, or its text; of several errors in one, the first's
 */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  return error instanceof Error ? error.message || error.name : String(error);
}
