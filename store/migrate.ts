/** Brings a database to the newest schema, by Kysely's migrator. */

import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import * as ledger from "./migrations/0001_ledger.ts";
import * as generations from "./migrations/0002_generations.ts";
import * as requests from "./migrations/0003_requests.ts";
import * as events from "./migrations/0004_events.ts";
import * as accountKeys from "./migrations/0005_account_keys.ts";
import * as oldestSecrets from "./migrations/0006_oldest_secrets.ts";
import * as lastEnds from "./migrations/0007_last_ends.ts";
import * as webhookBacklog from "./migrations/0008_webhook_backlog.ts";
import * as turns from "./migrations/0009_turns.ts";
import type { Schema } from "./schema.ts";

/** Forward only: a release is taken back by restoring a backup, never by undoing columns under live data. */
function migration({ statements }: { readonly statements: readonly string[] }): Migration {
  return {
    async up(database: Kysely<unknown>) {
      for (const statement of statements) await sql.raw(statement).execute(database);
    },
  };
}

const migrations: Readonly<Record<string, Migration>> = {
  "0001_ledger": migration(ledger),
  "0002_generations": migration(generations),
  "0003_requests": migration(requests),
  "0004_events": migration(events),
  "0005_account_keys": migration(accountKeys),
  "0006_oldest_secrets": migration(oldestSecrets),
  "0007_last_ends": migration(lastEnds),
  "0008_webhook_backlog": migration(webhookBacklog),
  // the last: who reads generations waits for the end of the transaction
  "0009_turns": migration(turns),
};

/** How a database's schema stands against this release's. */
export interface SchemaStanding {
  /** migrations that the next start will run */
  readonly pending: readonly string[];
  /** migrations of a newer release */
  readonly unknown: readonly string[];
}

/**
 * Compares a database's schema with this release's, and changes nothing.
 *
 * @param database to look at
 * @returns names of migrations
 */
export async function compareSchema(database: Kysely<Schema>): Promise<SchemaStanding> {
  const { rows: [table] } = await sql<{ there: boolean }>`
    select to_regclass('kysely_migration') is not null as there
  `.execute(database);
  const { rows } = table?.there === true
    ? await sql<{ name: string }>`select name from kysely_migration order by name`.execute(database)
    : { rows: [] };
  const done = new Set(rows.map(({ name }) => name));
  return {
    pending: Object.keys(migrations).filter((name) => !done.has(name)),
    unknown: [...done].filter((name) => !Object.hasOwn(migrations, name)),
  };
}

/**
 * Runs the migrations that are missing, all in one transaction; instances that start together wait for each other.
 *
 * @param database to bring up to date
 * @throws whatever kept a migration from running; the schema is then as it was
 */
export async function migrate(database: Kysely<Schema>): Promise<void> {
  const migrator = new Migrator({
    db: database,
    provider: { getMigrations: () => Promise.resolve({ ...migrations }) },
  });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}
