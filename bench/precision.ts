import { generate } from "../pipeline/generate.ts";
import { decodePhoto } from "../pipeline/photo.ts";
import { loadPipeline, type Pipeline } from "../pipeline/pipeline.ts";
import type { GenerateInput } from "../pipeline/protocol.ts";
import { portraitRequest, readBenchOptions, rounded } from "./shared/portrait_request.ts";
import { psnr } from "./shared/psnr.ts";
import type { Figure } from "./run.ts";

/** Decibels: issue 5. */
const TARGET = 30;

const PROMPTS = ["", "smiling", "sad, side view", "with glasses"];

/**
 * How near the pictures of the graphs that run here, 8-bit ones on the CPU where the bundle has them, come to those in
 * float32, from the same noise and with the bundle's defaults.
 *
 * @param args `--seeds COUNT` and those of `readBenchOptions`
 * @returns the mean PSNR
 *
 * @example
 * ```sh
 * deno task bench precision --threads 2 --seeds 4
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { seeds: 2 });
  const { bundle, threads, numbers: { seeds } } = options;
  const base = await portraitRequest(options);
  const exact = await loadPipeline(bundle, { provider: "cpu", threads, precision: "fp32" });
  const fast = await loadPipeline(bundle, { provider: "cpu", threads });
  const draw = async (pipeline: Pipeline, input: GenerateInput) => {
    const { images: [image] } = await generate(pipeline, input);
    return (await decodePhoto(image!.data)).data;
  };
  const rows: Record<string, Record<string, number>> = {};
  const all: number[] = [];
  for (const words of PROMPTS) {
    const prompt = words === "" ? base.classNoun : `${base.classNoun}, ${words}`;
    const decibels: number[] = [];
    for (let seed = 0; seed < seeds; seed++) {
      const input = { ...base, prompt, seed };
      decibels.push(psnr(await draw(fast, input), await draw(exact, input)));
    }
    all.push(...decibels);
    rows[prompt] = { "mean, dB": rounded(mean(decibels), 1), "least, dB": rounded(Math.min(...decibels), 1) };
  }
  console.log(`${base.numInferenceSteps} steps of ${base.scheduler}, ${seeds} seeds, ${threads} threads`);
  console.table(rows);
  const figure = rounded(mean(all), 1);
  return { figure, target: TARGET, holds: figure >= TARGET, unit: "dB" };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
