/** The database: reachable, new enough, of a schema this release knows, and readable with the keys at hand. */

import { sql } from "kysely";
import type { Config } from "../config.ts";
import { connectEmbeddedStore, StoreInUseError } from "../store/embedded_store.ts";
import { loadEncryptionKeys } from "../store/encryption_keys.ts";
import { compareSchema } from "../store/migrate.ts";
import { createSealer } from "../store/sealing.ts";
import { connectServerStore } from "../store/server_store.ts";
import type { Store } from "../store/store.ts";
import { exists } from "./exists.ts";
import { failed, type Finding, fine, messageOf, warning } from "./finding.ts";

/** PostgreSQL's `server_version_num` at least. */
const oldestServer = 150_000;

/** Seconds that the database's clock may differ. */
const clockSeconds = { warning: 5, failed: 60 };

async function checkSchema(store: Store): Promise<Finding> {
  const { pending, unknown } = await compareSchema(store.queries);
  if (unknown.length > 0) {
    return failed(
      "migrations",
      `a newer release has changed the schema: ${unknown.join(", ")}`,
      "Start that release, or restore the backup from before it.",
    );
  }
  return fine(
    "migrations",
    pending.length === 0 ? "up to date" : `the next start runs ${pending.join(", ")}`,
  );
}

async function checkVersion(store: Store): Promise<Finding> {
  const { rows: [row] } = await sql<{ number: number; name: string }>`
    select current_setting('server_version_num')::int as number, current_setting('server_version') as name
  `.execute(store.queries);
  const { number, name } = row ?? { number: 0, name: "of no version" };
  return number < oldestServer
    ? failed("database", `PostgreSQL ${name} is too old`, "Use PostgreSQL 15 or newer.")
    : fine("database", `PostgreSQL ${name}, ${store.kind}`);
}

async function checkClock(store: Store): Promise<Finding> {
  const before = Date.now();
  const { rows: [row] } = await sql<{ now: number }>`
    select (extract(epoch from clock_timestamp()) * 1000)::double precision as now
  `.execute(store.queries);
  const difference = Math.abs((row?.now ?? 0) - (before + Date.now()) / 2) / 1000;
  return judgeClock("the database's", difference);
}

/**
 * Judges how far this machine's clock is from another.
 *
 * @param whose the other clock
 * @param seconds between the two
 * @returns a warning from 5 seconds on, a failure from a minute on: tokens are refused by it
 */
export function judgeClock(whose: string, seconds: number): Finding {
  const detail = `${seconds.toFixed(1)} s from ${whose} clock`;
  const remedy = "Have both machines keep time by NTP (timedatectl, chrony).";
  if (seconds >= clockSeconds.failed) return failed("clock", detail, remedy);
  return seconds >= clockSeconds.warning ? warning("clock", detail, remedy) : fine("clock", detail);
}

/** Opens one thing that was sealed, whichever there is. */
async function checkSealed(store: Store, keys: readonly Uint8Array<ArrayBuffer>[]): Promise<Finding> {
  const sealer = await createSealer(keys);
  const { pending } = await compareSchema(store.queries);
  if (pending.length > 0) return fine("encryption keys", `${keys.length}, nothing to try them on yet`);
  const secrets = await store.queries.selectFrom("webhook_endpoints").select(["id", "secret"]).execute();
  for (const { id, secret } of secrets) {
    try {
      await sealer.open(secret, id);
    } catch {
      return failed(
        "encryption keys",
        `the secret of webhook endpoint ${id} was encrypted with a key that is not here`,
        "Put the key it was encrypted with back into ENCRYPTION_KEYS (or STATE_DIR); any place in the list will do.",
      );
    }
  }
  return fine("encryption keys", `${keys.length}, and ${secrets.length} webhook secrets open with them`);
}

/** A key that is not there is made at the first start, unless the database was encrypted with it. */
async function checkKeys(config: Config, store: Store | undefined): Promise<Finding> {
  const { encryption } = config.durable;
  if (encryption.kind === "development" && !await exists(encryption.path)) {
    return store === undefined ? fine("encryption keys", "one is made at the first start") : failed(
      "encryption keys",
      `${encryption.path} is gone, and the database beside it was encrypted with it`,
      "Restore it from the backup; without it webhook secrets and unfinished generations are lost.",
    );
  }
  try {
    const keys = await loadEncryptionKeys(encryption);
    return store === undefined
      ? fine("encryption keys", `${keys.length}, nothing to try them on`)
      : await checkSealed(store, keys);
  } catch (error) {
    return failed("encryption keys", messageOf(error), "Restore the file from the backup.");
  }
}

async function checkOpen(config: Config, store: Store): Promise<Finding[]> {
  const version = await checkVersion(store);
  if (version.status === "failed") return [version];
  const clock = store.kind === "server" ? [await checkClock(store)] : [];
  return [version, await checkSchema(store), await checkKeys(config, store), ...clock];
}

/**
 * Checks database, schema and encryption keys, and changes none of them.
 *
 * @param config of the service
 * @returns a finding each; the server's clock is compared, too
 */
export async function checkDatabase(config: Config): Promise<Finding[]> {
  const { store: where } = config.durable;
  const embedded = where.kind === "embedded";
  if (embedded && !await exists(`${where.folder}/PG_VERSION`)) {
    return [
      fine("database", "the embedded one is made at the first start"),
      await checkKeys(config, undefined),
    ];
  }
  try {
    await using store = embedded
      ? await connectEmbeddedStore(where.folder)
      : connectServerStore({ url: where.url, connections: 1 });
    return await checkOpen(config, store);
  } catch (error) {
    if (error instanceof StoreInUseError) {
      const remedy = "Nothing, if that is the service; stop it to have the database looked into.";
      return [warning("database", "another process has the embedded database open", remedy)];
    }
    const remedy = embedded
      ? "Restore STATE_DIR from a backup, or remove it to begin anew; its generations and charges are lost then."
      : "Check host, port, user, password and database of DATABASE_URL, and that the server lets this machine in.";
    return [failed("database", messageOf(error), remedy)];
  }
}
