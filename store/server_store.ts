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
  /** connections of this process at most; the queue takes three more */
  readonly connections?: number;
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
 * Connects and migrates. Connections that are lost are made again by themselves when they are next needed.
 *
 * @param options where the server is
 * @returns the open store
 * @throws when the server cannot be reached (see `isStoreUnavailable`) or refuses
 */
export async function openServerStore(options: ServerStoreOptions): Promise<Store> {
  const store = connectServerStore(options);
  try {
    await migrate(store.queries);
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
  return store;
}

/**
 * Prepares to use a database as it is, with the schema that some release left; the first query connects.
 *
 * @param options where the server is
 * @returns the store
 */
export function connectServerStore(options: ServerStoreOptions): Store {
  const { url, connections = 10, onConnectionLost = () => {} } = options;
  const pool = new pg.Pool({
    connectionString: url,
    max: connections,
    types,
    application_name: "idadapter",
    // an outage is told within this time
    connectionTimeoutMillis: 5_000,
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
    queueConnection: { backend: "postgres", connectionString: url, max: 3 },
    maintain: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => database.destroy(),
  };
}
