import { startInference } from "../pipeline/client.ts";
import { DiffusersPeer } from "./shared/diffusers_peer.ts";
import { portraitRequest, readBenchOptions, rounded, workerSettings } from "./shared/portrait_request.ts";
import type { Figure } from "./run.ts";

/** Images a second over diffusers' one at a time: issue 5. */
const TARGET = 1.5;

/** How many ask at once. */
const CALLERS = 8;

/**
 * Eight callers at once, each for a portrait of its own, against diffusers in float32 making the same eight one after
 * another.
 *
 * @param args `--rounds COUNT` and those of `readBenchOptions`
 * @returns the worker's images a second over diffusers'
 *
 * @example
 * ```sh
 * deno task bench throughput --python venv/bin/python --threads 2
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 1 });
  const { rounds } = options.numbers;
  const request = await portraitRequest(options);
  const requests = Array.from({ length: CALLERS }, (_, seed) => ({ ...request, seed }));
  const inference = await startInference(workerSettings(options));
  let [own, other] = [0, 0];
  try {
    await using peer = new DiffusersPeer(options);
    await inference.generate(request);
    await peer.generate(request, "float32");
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      await Promise.all(requests.map((one) => inference.generate(one)));
      own += (performance.now() - start) / 1000;
      for (const one of requests) other += (await peer.generate(one, "float32")).seconds;
    }
  } finally {
    await inference.close();
  }
  const images = rounds * CALLERS;
  console.table({
    "this service": { "images a second": rounded(images / own) },
    "diffusers, float32": { "images a second": rounded(images / other) },
  });
  const figure = rounded(other / own);
  return { figure, target: TARGET, holds: figure >= TARGET, unit: "x" };
}
