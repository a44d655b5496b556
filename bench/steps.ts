import { startInference } from "../pipeline/client.ts";
import { loadManifest } from "../models/manifest.ts";
import { decodePhoto } from "../pipeline/photo.ts";
import type { GenerateInput, SchedulerName } from "../pipeline/protocol.ts";
import { portraitRequest, readBenchOptions, rounded, workerSettings } from "./shared/portrait_request.ts";
import { psnr } from "./shared/psnr.ts";
import type { Figure } from "./run.ts";

/**
 * Decibels that the bundle's default steps must keep of the picture 50 would make: below, it is another picture to the eye.
 * More is not better: under strong guidance 12 and 20 steps differ by 8 dB and not in ID-Sim or realism (docs/architecture.md).
 */
const TARGET = 20;

const REFERENCE = { scheduler: "dpmpp_2m", numInferenceSteps: 50 } as const;

/** Deterministic samplers: all of them go to the same picture as their steps get smaller. */
const SCHEDULERS = ["ddim", "euler", "dpmpp_2m", "unipc"] as const satisfies readonly SchedulerName[];

const STEPS = [6, 8, 10, 12, 16, 20, 30];

/** Steps from one run of all of the UNet to the next. */
const CACHE_INTERVALS = [1, 2, 3, 4];

const PROMPTS = ["a portrait photo, smiling", "a pencil sketch", "sad, wearing glasses, side view"];

/** What is tried. */
type Choice =
  & Pick<GenerateInput, "scheduler" | "numInferenceSteps">
  & Partial<Pick<GenerateInput, "cacheInterval">>;

/**
 * What fewer steps, and steps that go on from earlier ones, cost: for each deterministic sampler and number of steps, how
 * near the pictures are to those of 50 steps of DPM-Solver++ 2M from the same noise, and the seconds they take.
 *
 * @param args `--seeds COUNT` and those of `readBenchOptions`
 * @returns mean PSNR of the bundle's default steps and sampler, or UniPC where that is a stochastic one
 *
 * @example
 * ```sh
 * deno task bench steps --threads 2 --seeds 4
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { seeds: 2 });
  const base = await portraitRequest(options);
  const inference = await startInference(workerSettings(options));
  const requests = PROMPTS.flatMap((prompt) =>
    Array.from({ length: options.numbers.seeds }, (_, seed): GenerateInput => ({ ...base, prompt, seed }))
  );
  const draw = async (choice: Choice) => {
    const pictures: Uint8Array[] = [];
    const start = performance.now();
    for (const request of requests) {
      const { images: [image] } = await inference.generate({ ...request, ...choice });
      pictures.push((await decodePhoto(image!.data)).data);
    }
    return { pictures, seconds: (performance.now() - start) / 1000 / requests.length };
  };
  try {
    const reference = await draw(REFERENCE);
    const measure = async (choice: Choice) => {
      const { pictures, seconds } = await draw(choice);
      const decibels = pictures.map((picture, index) => psnr(picture, reference.pictures[index]!));
      return { seconds, decibels: decibels.reduce((sum, value) => sum + value, 0) / decibels.length };
    };
    const table: Record<string, Record<string, string>> = {};
    for (const scheduler of SCHEDULERS) {
      for (const numInferenceSteps of STEPS) {
        const { seconds, decibels } = await measure({ scheduler, numInferenceSteps });
        (table[scheduler] ??= {})[numInferenceSteps] = `${decibels.toFixed(1)} dB, ${seconds.toFixed(2)} s`;
      }
    }
    const { numInferenceSteps } = base;
    // Pictures of a stochastic sampler have noise of their own, and go nowhere in particular.
    const scheduler = SCHEDULERS.find((one) => one === base.scheduler) ?? "unipc";
    const cached: Record<string, Record<string, string>> = {};
    const { graphs } = await loadManifest(options.bundle);
    for (const cacheInterval of graphs.unet_shallow === undefined ? [] : CACHE_INTERVALS) {
      for (const steps of STEPS) {
        const { seconds, decibels } = await measure({ scheduler, numInferenceSteps: steps, cacheInterval });
        (cached[`cache_interval ${cacheInterval}`] ??= {})[steps] = `${decibels.toFixed(1)} dB, ${
          seconds.toFixed(2)
        } s`;
      }
    }
    const { decibels } = await measure({ scheduler, numInferenceSteps });
    console.log(
      `PSNR to ${REFERENCE.numInferenceSteps} steps of ${REFERENCE.scheduler} (${
        reference.seconds.toFixed(2)
      } s), ` +
        `guidance ${base.guidanceScale}, and seconds a portrait`,
    );
    console.table(table);
    console.log(`${scheduler}, all of the UNet at every so many steps`);
    console.table(cached);
    return { figure: rounded(decibels, 1), target: TARGET, holds: decibels >= TARGET, unit: "dB" };
  } finally {
    await inference.close();
  }
}
