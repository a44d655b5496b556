import { sql } from "kysely";
import { openServerStore } from "../store/server_store.ts";
import type { Figure } from "./run.ts";
import { checkBooks } from "./shared/check_books.ts";
import { portraitRequest, readBenchOptions } from "./shared/portrait_request.ts";
import { startPostgres } from "./shared/postgres_server.ts";
import { ServiceInstance } from "./shared/service_instance.ts";

/**
 * Many concurrent retries with one `Idempotency-Key`, over two instances: one generation, one charge, equal answers.
 *
 * @param args `--retries COUNT`, and those of every bench
 * @returns answers that are not the one answer, generations and charges beyond the first
 *
 * @example
 * ```sh
 * deno task bench retries --retries 500
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { retries: 500 });
  const { retries } = options.numbers;
  await using server = await startPostgres();
  const url = await server.createDatabase();
  const stateFolder = await Deno.makeTempDir();
  const variables = {
    DATABASE_URL: url,
    ENCRYPTION_KEYS: crypto.getRandomValues(new Uint8Array(32)).toBase64(),
    THREADS: "1",
    BUNDLE: options.bundle,
  };
  await using first = new ServiceInstance({ stateFolder, variables });
  await using second = new ServiceInstance({ stateFolder, variables });
  first.start();
  await first.ready();
  second.start();
  await second.ready();
  const token = await first.token("bench");
  const input = await portraitRequest(options);
  const body = JSON.stringify({
    reference_images: input.referenceImages.map((photo) => photo.toBase64()),
    prompt: input.prompt,
    class_noun: input.classNoun,
    num_inference_steps: 2,
  });
  const began = performance.now();
  const answers = await Promise.all(Array.from({ length: retries }, async (_, n) => {
    const { address } = n % 2 === 0 ? first : second;
    const response = await fetch(`${address}/v1/generations`, {
      method: "POST",
      headers: {
        Authorization: `Bearer ${token}`,
        "Content-Type": "application/json",
        "Idempotency-Key": "one",
      },
      body,
    });
    return `${response.status} ${await response.text()}`;
  }));
  const seconds = (performance.now() - began) / 1000;
  await using store = await openServerStore({ url });
  const books = await checkBooks(store.queries, new Set());
  const { rows: [charges] } = await sql<{ count: number }>`
    select count(*)::int as count from transfers where kind = 'capture'
  `.execute(store.queries);
  const different = new Set(answers).size - 1;
  const failed = answers.filter((answer) => !answer.startsWith("200 ")).length;
  console.table({
    "retries": { count: retries },
    "different answers": { count: different + 1 },
    "answers that are no success": { count: failed },
    "generations": { count: books.generations },
    "charges": { count: charges?.count ?? 0 },
    "seconds": { count: Math.round(seconds * 10) / 10 },
  });
  for (const fault of books.faults) console.error(fault);
  await Deno.remove(stateFolder, { recursive: true });
  const figure = different + failed + Math.abs(books.generations - 1) + Math.abs((charges?.count ?? 0) - 1) +
    books.faults.length;
  return { figure, target: 0, holds: figure === 0, unit: "faults" };
}
