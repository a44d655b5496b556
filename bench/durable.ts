import { startService } from "../demo/service_process.ts";
import { signDevelopmentToken } from "../routes/tokens/development_token.ts";
import type { Figure } from "./run.ts";
import { portraitRequest, readBenchOptions, rounded } from "./shared/portrait_request.ts";
import { startPostgres } from "./shared/postgres_server.ts";

/** Milliseconds: issue 6. */
const TARGET = 25;

/** The middle of some numbers. */
function median(numbers: readonly number[]): number {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)]!;
}

/**
 * What the durable path adds to a generation: its wall-clock time at the client less the engine's own stages, one caller at
 * a time. HTTP, JSON, the job, the charge, the picture's way to the database and back are all in it.
 *
 * @param args `--rounds COUNT`, and those of every bench
 * @returns the median in milliseconds, of the slower of the two databases
 *
 * @example
 * ```sh
 * deno task bench durable --rounds 50
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 30 });
  const { rounds } = options.numbers;
  await using server = await startPostgres();
  const input = await portraitRequest(options);
  const body = JSON.stringify({
    reference_images: input.referenceImages.map((photo) => photo.toBase64()),
    prompt: input.prompt,
    class_noun: input.classNoun,
    num_inference_steps: 2,
  });
  const measure = async (variables: Readonly<Record<string, string>>) => {
    await using service = await startService(AbortSignal.timeout(300_000), {
      BUNDLE: options.bundle,
      THREADS: String(options.threads),
      ...variables,
    });
    const token = await signDevelopmentToken(service.jwt, { subject: "bench", expiresIn: "1h" });
    const overheads: number[] = [];
    for (let round = -5; round < rounds; round++) {
      const began = performance.now();
      const response = await fetch(`${service.address}/v1/generations`, {
        method: "POST",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body,
      });
      const { timings } = await response.json();
      const wall = performance.now() - began;
      const { references, prompt, denoise, decode, encode } = timings;
      // the first ones warm up
      if (round >= 0) overheads.push(wall - 1000 * (references + prompt + denoise + decode + encode));
    }
    return { median: rounded(median(overheads), 1), worst: rounded(Math.max(...overheads), 1) };
  };
  const rows = {
    embedded: await measure({}),
    server: await measure({
      DATABASE_URL: await server.createDatabase(),
      ENCRYPTION_KEYS: crypto.getRandomValues(new Uint8Array(32)).toBase64(),
    }),
  };
  console.log(
    `milliseconds a generation beside the engine's stages, ${rounds} rounds, ${options.threads} threads`,
  );
  console.table(rows);
  const figure = Math.max(rows.embedded.median, rows.server.median);
  return { figure, target: TARGET, holds: figure <= TARGET, unit: "ms" };
}
