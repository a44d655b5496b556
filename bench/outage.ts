import { openServerStore } from "../store/server_store.ts";
import type { Figure } from "./run.ts";
import { checkBooks, untilIdle } from "./shared/check_books.ts";
import { startLoad } from "./shared/durable_load.ts";
import { portraitRequest, readBenchOptions } from "./shared/portrait_request.ts";
import { startPostgres } from "./shared/postgres_server.ts";
import { ServiceInstance } from "./shared/service_instance.ts";

/**
 * PostgreSQL stopped under load and started again: clear 503s meanwhile, nothing lost, no restart needed.
 *
 * @param args `--seconds COUNT` without the server, `--clients COUNT`, and those of every bench
 * @returns faults found, answers that were neither a success nor `store_unavailable` among them
 *
 * @example
 * ```sh
 * deno task bench outage --seconds 20
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { seconds: 20, clients: 4 });
  const { seconds, clients } = options.numbers;
  await using server = await startPostgres();
  const url = await server.createDatabase();
  const stateFolder = await Deno.makeTempDir();
  await using instance = new ServiceInstance({
    stateFolder,
    variables: {
      DATABASE_URL: url,
      ENCRYPTION_KEYS: crypto.getRandomValues(new Uint8Array(32)).toBase64(),
      THREADS: String(options.threads),
      BUNDLE: options.bundle,
    },
  });
  instance.start();
  await instance.ready();
  const token = await instance.token("bench");
  const input = await portraitRequest(options);
  const body = JSON.stringify({
    reference_images: input.referenceImages.map((photo) => photo.toBase64()),
    prompt: input.prompt,
    class_noun: input.classNoun,
    num_inference_steps: 1,
  });
  const load = startLoad([instance], token, body, clients);
  const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  await pause(5_000);
  const before = load.accepted.size;
  await server.stop();
  const codes = new Map<string, number>();
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    const response = await fetch(`${instance.address}/v1/account`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    const { code = "no problem" } = await response.json();
    codes.set(code, (codes.get(code) ?? 0) + 1);
    await pause(250);
  }
  const back = performance.now();
  await server.start();
  while (load.accepted.size === before) await pause(10);
  const resumed = (performance.now() - back) / 1000;
  await pause(3_000);
  await load.stop();
  await using store = await openServerStore({ url });
  await untilIdle(store.queries, 60);
  const books = await checkBooks(store.queries, load.accepted);
  const unclear = [...codes].filter(([code]) => code !== "store_unavailable").reduce(
    (sum, [, n]) => sum + n,
    0,
  );
  // what is posted meanwhile is sent away for the same reason, and no other
  const strange = Object.entries(load.problems).filter(([code]) => code !== "store_unavailable")
    .reduce((sum, [, n]) => sum + n, 0) + (load.answers[0] ?? 0);
  console.table({
    "accepted before": { count: before },
    "accepted in all": { count: load.accepted.size },
    "succeeded": { count: books.states["succeeded"] ?? 0 },
    "asked meanwhile": { count: [...codes.values()].reduce((sum, n) => sum + n, 0) },
    "store_unavailable": { count: codes.get("store_unavailable") ?? 0 },
    "store_unavailable to a POST": { count: load.problems["store_unavailable"] ?? 0 },
    "other answers": { count: unclear + strange },
    "seconds from the server's start to the next acceptance": { count: Math.round(resumed * 10) / 10 },
  });
  for (const fault of books.faults) console.error(fault);
  await Deno.remove(stateFolder, { recursive: true });
  const figure = books.faults.length + unclear + strange;
  return { figure, target: 0, holds: figure === 0, unit: "faults" };
}
