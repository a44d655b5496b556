import { openEmbeddedStore } from "../store/embedded_store.ts";
import type { Figure } from "./run.ts";
import { crash } from "./shared/crash.ts";

/**
 * One instance on its embedded database, killed (SIGKILL) at random moments under load: every accepted generation ends once,
 * the ledger balances, every webhook and usage event arrives, and no webhook id comes with two bodies.
 *
 * @param args `--kills COUNT`, `--clients COUNT`, `--seed NUMBER`, and those of every bench
 * @returns faults found
 *
 * @example
 * ```sh
 * deno task bench crash-embedded --kills 10
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const stateFolder = await Deno.makeTempDir();
  try {
    return await crash({
      args,
      instances: 1,
      kills: 50,
      variables: { DATABASE_URL: "" },
      stateFolder,
      async read(instances, use) {
        await Promise.all(instances.map((instance) => instance.stop("SIGTERM")));
        await using store = await openEmbeddedStore(`${stateFolder}/database`);
        return await use(store.queries);
      },
      async resume(instances) {
        for (const instance of instances) instance.start();
        await Promise.all(instances.map((instance) => instance.ready()));
      },
    });
  } finally {
    await Deno.remove(stateFolder, { recursive: true });
  }
}
