import { startInference } from "../pipeline/client.ts";
import { decodePhoto } from "../pipeline/photo.ts";
import { DiffusersPeer, type PeerDtype } from "./shared/diffusers_peer.ts";
import {
  median,
  portraitRequest,
  readBenchOptions,
  rounded,
  workerSettings,
} from "./shared/portrait_request.ts";
import { psnr } from "./shared/psnr.ts";
import type { Figure } from "./run.ts";

/** How many times as fast as the better of diffusers' two: issue 5. */
const TARGET = 2;

/** Decibels below which the peer draws another picture, and so does other work. */
const SAME_PICTURE = 20;

const DTYPES = ["float32", "bfloat16"] as const satisfies readonly PeerDtype[];

/**
 * One portrait, photo to finished picture, by the service's worker and by diffusers with PyTorch on the same weights,
 * steps and threads; in turn, so that a busy machine is as busy for all.
 *
 * @param args `--rounds COUNT` and those of `readBenchOptions`
 * @returns the faster of diffusers' medians over the worker's
 *
 * @example
 * ```sh
 * deno task bench diffusers --python venv/bin/python --threads 2
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 5 });
  const { rounds } = options.numbers;
  const request = await portraitRequest(options);
  const inference = await startInference(workerSettings(options));
  const seconds: Record<string, number[]> = { "this service": [] };
  const likeness: Record<string, number> = {};
  try {
    await using peer = new DiffusersPeer(options);
    for (let round = 0; round <= rounds; round++) {
      const start = performance.now();
      const { images: [image] } = await inference.generate(request);
      const own = (performance.now() - start) / 1000;
      const picture = await decodePhoto(image!.data);
      const taken: Record<string, number> = { "this service": own };
      for (const dtype of DTYPES) {
        const answer = await peer.generate(request, dtype);
        taken[dtype] = answer.seconds;
        likeness[dtype] = psnr(picture.data, answer.pixels);
        if (likeness[dtype] < SAME_PICTURE) {
          throw new Error(
            `diffusers draws another picture in ${dtype}: shared/diffusers_peer.ts must send all that guides the service's`,
          );
        }
      }
      // The first round warms up all three.
      if (round === 0) continue;
      for (const [name, value] of Object.entries(taken)) (seconds[name] ??= []).push(value);
    }
  } finally {
    await inference.close();
  }
  console.log(
    `${request.numInferenceSteps} steps of ${request.scheduler}, ${options.threads} threads, ${rounds} rounds`,
  );
  console.table(Object.fromEntries(
    Object.entries(seconds).map(([name, values]) => [name, {
      "median, s": rounded(median(values), 3),
      "least, s": rounded(Math.min(...values), 3),
      "PSNR to this service, dB": likeness[name] === undefined ? "" : rounded(likeness[name], 1),
    }]),
  ));
  const peer = Math.min(...DTYPES.map((dtype) => median(seconds[dtype]!)));
  const figure = rounded(peer / median(seconds["this service"]!));
  return { figure, target: TARGET, holds: figure >= TARGET, unit: "x" };
}
