/** PostgreSQL inside this process (PGlite), its files in one folder. */

import { PGlite, types } from "@electric-sql/pglite";
import { Kysely, PGliteDialect } from "kysely";
import { fromPglite } from "pg-boss";
import { binaryBytea, parseBytea } from "./bytea.ts";
import { migrate } from "./migrate.ts";
import type { Schema } from "./schema.ts";
import { type Store, transactionOn } from "./store.ts";

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
    async [Symbol.asyncDispose]() {
      await database.destroy();
      lock?.close();
    },
  };
}
