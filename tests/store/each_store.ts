/** Runs a test on both databases: the embedded one and a real PostgreSQL server. */

import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { openEmbeddedStore } from "../../store/embedded_store.ts";
import { openServerStore } from "../../store/server_store.ts";
import type { Store } from "../../store/store.ts";
import { postgresInstalled, type PostgresServer, startPostgres } from "../../bench/shared/postgres_server.ts";

let server: PostgresServer | undefined;

/** The server of this test file, started when it is first needed. */
export async function fileServer(): Promise<PostgresServer> {
  server ??= await startPostgres();
  return server;
}

Deno.test.afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  server = undefined;
});

/** An initialised, empty data folder as a tar file: a tenth of the time that initialising takes; kept between runs. */
async function template(): Promise<Blob> {
  const { default: { version } } = await import("../../node_modules/@electric-sql/pglite/package.json", {
    with: { type: "json" },
  });
  const path = join(Deno.env.get("TMPDIR") ?? "/tmp", `idadapter-pglite-${version}.tar`);
  try {
    return new Blob([await Deno.readFile(path)]);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const pglite = await PGlite.create("memory://");
  const dump = await pglite.dumpDataDir("none");
  await pglite.close();
  const draft = `${path}.${crypto.randomUUID()}`;
  await Deno.writeFile(draft, new Uint8Array(await dump.arrayBuffer()));
  await Deno.rename(draft, path);
  return dump;
}

/** A new embedded store in memory. */
export async function openTestStore(): Promise<Store> {
  return await openEmbeddedStore(null, await template());
}

/** Opens one more store on the same database, as another instance would; the embedded database takes no second one. */
export type OpenAnother = () => Promise<Store>;

/** What a test gets. */
export interface StoreTest {
  readonly store: Store;
  /** undefined on the embedded database */
  readonly another: OpenAnother | undefined;
  readonly step: Deno.TestContext["step"];
}

/**
 * Registers a test twice, once on each database, each time on a new and empty one.
 *
 * @param name of the test
 * @param test what to do
 */
export function testOnEachStore(name: string, test: (context: StoreTest) => Promise<void>): void {
  Deno.test(`${name} (embedded)`, async (t) => {
    await using store = await openTestStore();
    await test({ store, another: undefined, step: t.step });
  });
  testOnServer(`${name} (server)`, test);
}

/** What to add to the name of a test that needs the server. */
export const withoutPostgres: string = postgresInstalled ? "" : " (ignored: PostgreSQL is not installed)";

/** Registers a test on the server alone: for what takes several instances, or an outage. */
export function testOnServer(
  name: string,
  test: (context: StoreTest & { server: PostgresServer }) => Promise<void>,
): void {
  Deno.test({
    name: name + withoutPostgres,
    ignore: !postgresInstalled,
    // the server is the file's, not the test's
    sanitizeResources: false,
    fn: async (t) => {
      const server = await fileServer();
      const url = await server.createDatabase();
      await using store = await openServerStore({ url });
      await test({ store, server, another: () => openServerStore({ url }), step: t.step });
    },
  });
}
