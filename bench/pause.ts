import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadManifest } from "../models/manifest.ts";
import { startInference } from "../pipeline/client.ts";
import type { GenerateInput } from "../pipeline/protocol.ts";
import type { Figure } from "./run.ts";

/** Milliseconds the main thread may be held up: issue 3. */
const TARGET = 50;

/** Milliseconds between the ticks of the watch on the main thread. */
const TICK = 5;

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * The main thread's longest pause while the real worker makes portraits and checks a photo.
 *
 * @param args `--bundle FOLDER`, `--photo FILE`, `--rounds COUNT`, `--images COUNT`, `--steps COUNT`, `--threads COUNT`
 * @returns the longest pause in milliseconds
 *
 * @example
 * ```sh
 * deno task bench pause --rounds 5
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readOptions(args);
  const { defaults, class_nouns: [classNoun] } = await loadManifest(options.bundle);
  const photo = await Deno.readFile(options.photo);
  const input: GenerateInput = {
    referenceImages: [photo],
    prompt: "a portrait photo",
    classNoun: classNoun!,
    negativePrompt: "",
    numImages: options.images,
    numInferenceSteps: options.steps,
    guidanceScale: defaults.guidance_scale,
    identityStrength: defaults.identity_strength,
    scheduler: defaults.scheduler,
    seed: 1,
    outputFormat: "png",
  };
  const inference = await startInference({
    bundle: options.bundle,
    provider: "cpu",
    threads: options.threads,
  });
  const rows: Record<string, Record<string, number>> = {};
  let longest = 0;
  try {
    rows["idle"] = await watch(() => new Promise<void>((resolve) => setTimeout(resolve, 1000)));
    for (let round = 1; round <= options.rounds; round++) {
      const row = await watch(() => Promise.all([inference.generate(input), inference.checkFace(photo)]));
      rows[`round ${round}`] = row;
      longest = Math.max(longest, row["longest pause, ms"]!);
    }
  } finally {
    await inference.close();
  }
  console.log(`${options.images} portraits of ${options.steps} steps a round, ${options.threads} threads`);
  console.table(rows);
  return { figure: round2(longest), target: TARGET, holds: longest < TARGET, unit: "ms" };
}

function readOptions(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      bundle: { type: "string", default: here("../models/default") },
      photo: { type: "string", default: here("../tests/fixtures/reference/photo.png") },
      rounds: { type: "string", default: "3" },
      images: { type: "string", default: "4" },
      steps: { type: "string", default: "20" },
      threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    },
  });
  return {
    bundle: values.bundle,
    photo: values.photo,
    rounds: wholeNumber(values.rounds),
    images: wholeNumber(values.images),
    steps: wholeNumber(values.steps),
    threads: wholeNumber(values.threads),
  };
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new RangeError(`${text} is not a whole number above 0`);
  return Number(text);
}

/** Runs `work` while the main thread ticks, and tells how late its ticks came. */
async function watch(work: () => Promise<unknown>): Promise<Record<string, number>> {
  const gaps: number[] = [];
  const start = performance.now();
  let last = start;
  const mark = () => {
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  };
  const timer = setInterval(mark, TICK);
  await work();
  // What held the thread up at the very end counts too.
  mark();
  clearInterval(timer);
  gaps.sort((one, other) => one - other);
  return {
    "seconds": round2((performance.now() - start) / 1000),
    "ticks": gaps.length,
    "median pause, ms": round2(gaps[gaps.length >> 1]!),
    "99th percentile, ms": round2(gaps[Math.floor(0.99 * (gaps.length - 1))]!),
    "longest pause, ms": round2(gaps.at(-1)!),
  };
}

function round2(value: number): number {
  return Math.round(100 * value) / 100;
}
