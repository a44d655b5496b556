/** Tells an outage of the database from everything else a query can throw, and from an outage of the image store. */

/** System errors of a connection that cannot be made or was lost. */
const connectionCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
]);

/**
 * SQLSTATE: class 08 (connection exception), 57P0x (server shutting down or starting), 53300 (too many connections),
 * 25006 (a standby), 57014 (a query that took too long), 25P03 (a transaction whose client was not heard of).
 */
const unavailableState = /^(?:08...|57P0[123]|53300|25006|57014|25P03)$/;

/** What node-postgres throws without a code. */
const connectionMessage =
  /connection terminated|timeout exceeded when trying to connect|query read timeout|connection error and is not queryable|connection ended|client was closed/i;

/** A store of objects, such as S3, cannot be reached or does not do as asked; the database has no part in it. */
export class ObjectStoreError extends Error {
  override readonly name = "ObjectStoreError";
}

/**
 * Tells whether trying again later may help because the database is not there right now.
 *
 * @param error what a query threw
 * @returns true for a refused, lost or timed out connection and for a server that starts or stops
 */
export function isStoreUnavailable(error: unknown): boolean {
  // its cause may be a refused connection, too
  if (!(error instanceof Error) || error instanceof ObjectStoreError) return false;
  if (error instanceof AggregateError && error.errors.some(isStoreUnavailable)) return true;
  const { code } = error as Error & { code?: unknown };
  if (typeof code === "string" && (connectionCodes.has(code) || unavailableState.test(code))) return true;
  return connectionMessage.test(error.message) || isStoreUnavailable(error.cause);
}

/**
 * Tells whether two transactions were in each other's way, so that running this one again may succeed.
 *
 * @param error what a transaction threw
 * @returns true for a deadlock (40P01) or a serialization failure (40001)
 */
export function isRetryable(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === "40P01" || code === "40001";
}
