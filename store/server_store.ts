/** A PostgreSQL server, 15 or newer. */

import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { parseBytea } from "./bytea.ts";
import { migrate } from "./migrate.ts";
import type { Schema } from "./schema.ts";
import { type Store, transactionOn } from "./store.ts";

/** Where the server is. */
export interface ServerStoreOptions {
  /** `postgres://user:password@host:port/database` */
  readonly url: string;
  /** connections of this process at most; the queue takes three more, and two that listen */
  readonly connections?: number;
  /** the longest that one statement may take; what has no answer by then is an outage. 0 for no limit */
  readonly answerSeconds?: number;
  /** hears of idle connections that break; the next query opens another */
  readonly onConnectionLost?: (error: Error) => void;
}

const { BYTEA, INT8 } = pg.types.builtins;

/** `bigint` as a number: amounts and ids stay far below 2^53. A database may still write bytes the old way, as escapes. */
const parsers: Readonly<Record<number, (text: string) => unknown>> = {
  [INT8]: Number,
  [BYTEA]: (text) => text.startsWith("\\x") ? parseBytea(text) : pg.types.getTypeParser(BYTEA)(text),
};

const types: pg.CustomTypesConfig = {
  getTypeParser:
    ((oid: number, format?: "text" | "binary") =>
      (format === "binary" ? undefined : parsers[oid]) ??
        pg.types.getTypeParser(oid, format as "text")) as typeof pg.types.getTypeParser,
};

/**
 * Ends its connection when an answer does not come in time: it is half open, and whoever asked next would wait as well.
 * node-postgres alone would lend it out again.
 */
class ImpatientClient extends pg.Client {
  override query = ((...args: Parameters<pg.Client["query"]>) => {
    const answer: unknown = super.query(...args);
    if (answer instanceof Promise) {
      answer.catch((error: unknown) => {
        // it waits for nothing while a query has no answer, and the pool lends out nothing that was ended
        if (error instanceof Error && error.message === "Query read timeout") this.end().catch(() => {});
      });
    }
    return answer;
  }) as pg.Client["query"];
}

/**
 * Connects and migrates. Connections that are lost are made again by themselves when they are next needed.
 *
 * @param options where the server is
 * @returns the open store
 * @throws when the server cannot be reached (see `isStoreUnavailable`) or refuses
 */
export async function openServerStore(options: ServerStoreOptions): Promise<Store> {
  {
    // a migration of a large table, or the wait for another instance's, takes as long as it takes
    await using patient = connectServerStore({ ...options, answerSeconds: 0 });
    await migrate(patient.queries);
  }
  return connectServerStore(options);
}

/**
 * Prepares to use a database as it is, with the schema that some release left; the first query connects.
 *
 * @param options where the server is
 * @returns the store
 */
export function connectServerStore(options: ServerStoreOptions): Store {
  const { url, connections = 10, answerSeconds = 15, onConnectionLost = () => {} } = options;
  const pool = new pg.Pool({
    Client: ImpatientClient,
    connectionString: url,
    max: connections,
    types,
    application_name: "idadapter",
    // an outage is told within this time
    connectionTimeoutMillis: 5_000,
    // a little later than the server itself would give up
    ...(answerSeconds === 0 ? {} : {
      query_timeout: answerSeconds * 1000 + 1000,
      // not among the connection's own parameters: poolers refuse those they do not know
      onConnect: (client: pg.ClientBase) =>
        client.query(
          `set statement_timeout = '${answerSeconds}s'; set idle_in_transaction_session_timeout = '${answerSeconds}s'`,
        ),
    }),
    keepAlive: true,
  });
  pool.on("error", onConnectionLost);
  // a connection that breaks while it is lent out fails its query, and that is where it is told
  pool.on("connect", (client) => client.on("error", () => {}));
  const database = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
  return {
    kind: "server",
    queries: database,
    transaction: transactionOn(database),
    queueConnection: {
      backend: "postgres",
      connectionString: url,
      max: 3,
      // its housekeeping takes longer than what a request waits for
      query_timeout: 4 * answerSeconds * 1000,
    },
    maintain: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => database.destroy(),
  };
}
