/** What every bench asks of the model, and what its command line may change. */

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadManifest } from "../../models/manifest.ts";
import type { InferenceSettings } from "../../pipeline/client.ts";
import { defaultGuidance } from "../../pipeline/guidance.ts";
import type { GenerateInput } from "../../pipeline/protocol.ts";

/** A bench's options, all whole numbers above 0 but for the paths. */
export interface BenchOptions<Name extends string> {
  readonly bundle: string;
  readonly photo: string;
  readonly threads: number;
  /** a Python with training's requirements, for the benches against diffusers */
  readonly python: string;
  /** the bench's own */
  readonly numbers: Readonly<Record<Name, number>>;
}

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * Reads `--bundle FOLDER`, `--photo FILE`, `--threads COUNT`, `--python FILE` and a bench's own numbers.
 *
 * @param args what followed the bench's name
 * @param defaults the bench's own options with their defaults
 * @returns all of them
 * @throws {RangeError} a number is none, or 0
 *
 * @example
 * ```ts
 * const { numbers: { rounds } } = readBenchOptions(["--rounds", "5"], { rounds: 3 });
 * ```
 */
export function readBenchOptions<Name extends string>(
  args: readonly string[],
  defaults: Readonly<Record<Name, number>>,
): BenchOptions<Name> {
  const names = Object.keys(defaults) as Name[];
  const { values } = parseArgs({
    args: [...args],
    options: {
      bundle: { type: "string", default: here("../../models/default") },
      photo: { type: "string", default: here("../../tests/fixtures/reference/photo.png") },
      threads: { type: "string", default: String(navigator.hardwareConcurrency) },
      python: { type: "string", default: "python3" },
      ...Object.fromEntries(names.map((name) => [name, { type: "string", default: String(defaults[name]) }])),
    },
  });
  const texts = values as Record<string, string>;
  return {
    bundle: values.bundle,
    photo: values.photo,
    threads: wholeNumber(values.threads),
    python: values.python,
    numbers: Object.fromEntries(names.map((name) => [name, wholeNumber(texts[name]!)])) as Record<
      Name,
      number
    >,
  };
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new RangeError(`${text} is not a whole number above 0`);
  return Number(text);
}

/**
 * A request with the model's defaults.
 *
 * @param options bundle and photo
 * @param changes fields that take the place of the defaults
 *
 * @example
 * ```ts
 * const input = await portraitRequest(options, { numImages: 2, seed: 7 });
 * ```
 */
export async function portraitRequest(
  { bundle, photo }: BenchOptions<string>,
  changes: Partial<GenerateInput> = {},
): Promise<GenerateInput> {
  const { defaults, class_nouns: [classNoun] } = await loadManifest(bundle);
  return {
    referenceImages: [await Deno.readFile(photo)],
    prompt: "a portrait photo",
    classNoun: classNoun!,
    negativePrompt: defaults.negative_prompt,
    numImages: 1,
    numInferenceSteps: defaults.num_inference_steps,
    guidanceScale: defaults.guidance_scale,
    identityGuidanceScale: defaults.identity_guidance_scale,
    earlyGuidance: defaultGuidance(defaults).early,
    guidanceRescale: defaults.guidance_rescale,
    identityStrength: defaults.identity_strength,
    poseVariation: defaults.pose_variation,
    scheduler: defaults.scheduler,
    cacheInterval: 1,
    seed: 1,
    outputFormat: "png",
    ...changes,
  };
}

/**
 * Where a bench's worker runs: on the CPU.
 *
 * @param options bundle and threads
 */
export function workerSettings({ bundle, threads }: BenchOptions<string>): InferenceSettings {
  return { bundle, threads, provider: "cpu" };
}

/**
 * The middle of some numbers.
 *
 * @example
 * ```ts
 * median([3, 1, 2]); // 2
 * ```
 */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

/**
 * A number for a table.
 *
 * @param value any
 * @param digits after the point
 */
export function rounded(value: number, digits = 2): number {
  return Number(value.toFixed(digits));
}
