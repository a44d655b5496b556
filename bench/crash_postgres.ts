import { openServerStore } from "../store/server_store.ts";
import type { Figure } from "./run.ts";
import { crash } from "./shared/crash.ts";
import { startPostgres } from "./shared/postgres_server.ts";

/**
 * Two instances on one PostgreSQL, killed (SIGKILL) at random moments under load: every accepted generation ends once, the
 * ledger balances, every webhook and usage event arrives, and no webhook id comes with two bodies.
 *
 * @param args `--kills COUNT`, `--clients COUNT`, `--seed NUMBER`, and those of every bench
 * @returns faults found
 *
 * @example
 * ```sh
 * deno task bench crash-postgres --kills 20
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  await using server = await startPostgres();
  const url = await server.createDatabase();
  const stateFolder = await Deno.makeTempDir();
  const key = crypto.getRandomValues(new Uint8Array(32)).toBase64();
  try {
    return await crash({
      args,
      instances: 2,
      kills: 200,
      variables: { DATABASE_URL: url, ENCRYPTION_KEYS: key },
      stateFolder,
      async read(_instances, use) {
        await using store = await openServerStore({ url });
        return await use(store.queries);
      },
      resume: () => Promise.resolve(),
    });
  } finally {
    await Deno.remove(stateFolder, { recursive: true });
  }
}
