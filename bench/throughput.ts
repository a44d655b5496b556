import { startInference } from "../pipeline/client.ts";
import { DiffusersPeer } from "./peers/diffusers_peer.ts";
import { readPeerOptions } from "./peers/peer_options.ts";
import { portraitRequest } from "./peers/portrait_request.ts";
import type { Figure } from "./run.ts";

/** Images a second over diffusers' one at a time: issue 5. */
const TARGET = 1.5;

/** How many ask at once. */
const CALLERS = 8;

/**
 * Eight callers at once, each for a portrait of its own, against diffusers in float32 making the same eight one after
 * another.
 *
 * @param args see `readPeerOptions`
 * @returns the worker's images a second over diffusers'
 *
 * @example
 * ```sh
 * deno task bench throughput --python venv/bin/python --threads 2
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readPeerOptions(args, 1);
  const request = await portraitRequest(options.bundle, options.photo);
  const requests = Array.from({ length: CALLERS }, (_, seed) => ({ ...request, seed }));
  const inference = await startInference({ ...options, provider: "cpu" });
  let [own, other] = [0, 0];
  try {
    await using peer = new DiffusersPeer(options);
    await inference.generate(request);
    await peer.generate(request, "float32");
    for (let round = 0; round < options.rounds; round++) {
      const start = performance.now();
      await Promise.all(requests.map((one) => inference.generate(one)));
      own += (performance.now() - start) / 1000;
      for (const one of requests) other += (await peer.generate(one, "float32")).seconds;
    }
  } finally {
    await inference.close();
  }
  const images = options.rounds * CALLERS;
  console.table({
    "this service": { "images a second": Number((images / own).toFixed(2)) },
    "diffusers, float32": { "images a second": Number((images / other).toFixed(2)) },
  });
  const figure = Math.round(100 * other / own) / 100;
  return { figure, target: TARGET, holds: figure >= TARGET, unit: "x" };
}
