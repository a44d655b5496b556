/** The database as the rest of the service sees it. */

import { type Kysely, type RawBuilder, sql } from "kysely";
import type { Db } from "pg-boss";
import type { Schema } from "./schema.ts";
import { isRetryable } from "./unavailable.ts";

/** Runs queries: the database itself, or one transaction. `sql` of Kysely executes on it, too. */
export type Queries = Kysely<Schema>;

/** How pg-boss gets at the same database. */
export type QueueConnection =
  | { readonly backend: "pglite"; readonly db: Db }
  | {
    readonly backend: "postgres";
    readonly connectionString: string;
    readonly max: number;
    /** milliseconds after which a query without an answer fails, and its connection with it; 0 for never */
    readonly query_timeout: number;
  };

/** An open database; `await using` closes it. */
export interface Store extends AsyncDisposable {
  readonly kind: "embedded" | "server";
  /** each query by itself */
  readonly queries: Queries;
  /**
   * Runs queries that take effect together or not at all; a deadlock runs `work` again.
   *
   * @param work must do everything through what it is given: on the embedded database anything else waits for ever
   */
  transaction<T>(work: (transaction: Queries) => Promise<T>): Promise<T>;
  readonly queueConnection: QueueConnection;
  /** Does what a server does by itself: space of changed rows is given back, and the planner knows how many there are. */
  maintain(): Promise<void>;
}

/**
 * What a statement returns to have its commit not wait for the disk: for what may be forgotten when the database itself
 * dies, and for what only counts with a later commit, which brings everything before it to the disk.
 */
export const withoutWaiting: RawBuilder<string> = sql<string>`set_config('synchronous_commit', 'off', true)`;

/** Runs of a transaction before a deadlock is somebody's problem. */
const mostRuns = 5;

/**
 * Makes `transaction` of a {@linkcode Store}.
 *
 * @param database to run on
 * @returns a function that runs its work in a transaction
 */
export function transactionOn(database: Kysely<Schema>): Store["transaction"] {
  return async (work) => {
    for (let run = 1;; run++) {
      try {
        return await database.transaction().execute(work);
      } catch (error) {
        if (!isRetryable(error) || run === mostRuns) throw error;
      }
    }
  };
}
