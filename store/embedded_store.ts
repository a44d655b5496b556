/** PostgreSQL inside this process (PGlite), its files in one folder. */

import { PGlite, types } from "@electric-sql/pglite";
import { Kysely, PGliteDialect, sql } from "kysely";
import { fromPglite } from "pg-boss";
import { binaryBytea, parseBytea } from "./bytea.ts";
import { migrate } from "./migrate.ts";
import type { Schema } from "./schema.ts";
import { type Queries, type Store, transactionOn } from "./store.ts";

const bytes = {
  serializers: { [types.BYTEA]: binaryBytea },
  parsers: { [types.BYTEA]: parseBytea },
};

/** Another process works on the folder. */
export class StoreInUseError extends Error {
  override readonly name = "StoreInUseError";
}

/** Two processes on one folder would destroy it; the system drops the lock with the process, however that ends. */
async function lockFolder(folder: string): Promise<Deno.FsFile> {
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
  const file = await Deno.open(`${folder}.lock`, { create: true, write: true, mode: 0o600 });
  if (!await file.tryLock(true)) {
    file.close();
    throw new StoreInUseError(
      `${folder} is in use by another process: stop that one, set another STATE_DIR, or set DATABASE_URL to share a server.`,
    );
  }
  return file;
}

/**
 * Vacuums and analyses the tables that have changed as much as PostgreSQL's autovacuum would wait for: PGlite has none,
 * and without statistics the planner takes every table for an empty one, and the queue reads all messages for the next.
 *
 * @param queries outside of any transaction
 */
async function vacuumChanged(queries: Queries): Promise<void> {
  const { rows } = await sql<{ table: string }>`
    select relid::regclass::text as table
    from pg_stat_user_tables join pg_class on pg_class.oid = relid
    where n_dead_tup > 50 + 0.2 * greatest(reltuples, 0) or n_mod_since_analyze > 50 + 0.1 * greatest(reltuples, 0)
  `.execute(queries);
  for (const { table } of rows) await sql`vacuum (analyze) ${sql.raw(table)}`.execute(queries);
}

/**
 * Opens the embedded database, making it when the folder is new, and migrates it.
 *
 * @param folder for its files; `null` keeps everything in memory, for tests
 * @param template tar of an initialised data folder to start a new one from, which is quicker than initialising
 * @returns the open store
 * @throws {StoreInUseError} when another process has the folder open
 */
export async function openEmbeddedStore(folder: string | null, template?: Blob): Promise<Store> {
  const store = await connectEmbeddedStore(folder, template);
  await migrate(store.queries);
  return store;
}

/**
 * Opens the embedded database as it is, with the schema that some release left.
 *
 * @param folder for its files; `null` keeps everything in memory, for tests
 * @param template tar of an initialised data folder to start a new one from, which is quicker than initialising
 * @returns the open store
 * @throws {StoreInUseError} when another process has the folder open
 */
export async function connectEmbeddedStore(folder: string | null, template?: Blob): Promise<Store> {
  const lock = folder === null ? undefined : await lockFolder(folder);
  const pglite = await PGlite.create(
    folder ?? "memory://",
    template === undefined ? bytes : { ...bytes, loadDataDir: template },
  );
  const database = new Kysely<Schema>({ dialect: new PGliteDialect({ pglite }) });
  return {
    kind: "embedded",
    queries: database,
    transaction: transactionOn(database),
    queueConnection: { backend: "pglite", db: fromPglite(pglite) },
    maintain: () => vacuumChanged(database),
    async [Symbol.asyncDispose]() {
      await database.destroy();
      lock?.close();
    },
  };
}
