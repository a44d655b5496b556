/** The demo's command line. */

import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { limits } from "../openapi/limits.ts";

/** What the demo is asked to do; paths are absolute. */
export interface DemoOptions {
  /** the reference photo */
  readonly photo: string;
  /** what to make portraits of, one after another; at least one */
  readonly prompts: readonly string[];
  readonly classNoun: string;
  /** of each prompt's first portrait; the next ones count up */
  readonly seed: number;
  /** denoising steps; undefined leaves the choice to the model */
  readonly steps: number | undefined;
  /** portraits to make of each prompt */
  readonly count: number;
  /** folder the pictures are written to */
  readonly out: string;
}

/** Where relative paths and defaults start. */
export interface DemoFolders {
  /** the clone */
  readonly repository: string;
  /** where the caller stands */
  readonly caller: string;
}

/** The command line cannot be followed; the message says which option and what it takes. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const defaults = {
  photo: "tests/fixtures/face.png",
  /** what the sample photo shows, and what is said of anybody else's */
  sampleNoun: "woman",
  classNoun: "person",
  seed: 1,
  /** of a prompt that is given, and of each of those that stand for none */
  count: 4,
  countOfEach: 1,
  out: "out/demo",
};

/** What the portraits show where nothing is said: a bit of everything that the model was taught. */
const samplePrompts = (noun: string) => [
  `a photo of a ${noun}`,
  `a photo of a ${noun}, smiling`,
  `a photo of a ${noun} with glasses`,
  `a photo of a ${noun}, facing left`,
  `a pencil sketch of a ${noun}`,
  `an oil painting of a ${noun}`,
  `a cartoon of a ${noun}`,
  `a black and white photo of a ${noun}`,
];

const { numImages, numInferenceSteps, seed: seedLimits } = limits;

/** What `--help` prints. */
export const usage = `Makes portraits of the person in a photo, with the real service on this machine.

  deno task demo [--photo FILE] [--prompt TEXT] …

  --photo FILE        reference photo: JPEG, PNG, WebP or AVIF with one face (${defaults.photo})
  --prompt TEXT       what the portraits show; may be given several times (eight prompts, from a smile to a cartoon)
  --class-noun NOUN   what the person is, one of the model's nouns, such as man, woman, person
                      (${defaults.classNoun}; ${defaults.sampleNoun} for the sample photo)
  --seed NUMBER       of the first portrait, the next ones count up (${defaults.seed})
  --steps NUMBER      denoising steps, ${numInferenceSteps.min} to ${numInferenceSteps.max} (the model's default)
  --count NUMBER      portraits of each prompt, ${numImages.min} to ${numImages.max} (${defaults.count}; ${defaults.countOfEach} where no prompt is given)
  --out FOLDER        where pictures are written (${defaults.out})
  --help              prints this

The environment's BUNDLE (a folder), EXECUTION_PROVIDER and THREADS choose model, processor and threads as for the
service.`;

function wholeNumber(option: string, text: string, { min, max }: { min: number; max: number }): number {
  const value = Number(text);
  if (!/^\d{1,12}$/.test(text) || value < min || value > max) {
    throw new UsageError(`--${option} must be a whole number from ${min} to ${max}, not ${text}`);
  }
  return value;
}

function words(option: string, text: string): string {
  if (text.trim() === "") throw new UsageError(`--${option} must not be empty`);
  return text;
}

function split(args: readonly string[]) {
  try {
    return parseArgs({
      // npm's habit, `task demo -- --photo x`, works too
      args: args[0] === "--" ? args.slice(1) : [...args],
      options: {
        photo: { type: "string" },
        prompt: { type: "string", multiple: true },
        "class-noun": { type: "string" },
        seed: { type: "string", default: String(defaults.seed) },
        steps: { type: "string" },
        count: { type: "string" },
        out: { type: "string" },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : "the options cannot be read");
  }
}

/**
 * Reads the command line.
 *
 * @param args what follows `deno task demo`
 * @param folders given paths start from the caller's folder, defaults from the repository
 * @returns the options, or `help` when that was asked for
 * @throws {UsageError} an option is unknown, lacks its value or has a wrong one
 *
 * @example
 * ```ts
 * parseDemoOptions(["--count", "2"], { repository: "/src/idadapter", caller: "/home/me" });
 * ```
 */
export function parseDemoOptions(args: readonly string[], folders: DemoFolders): DemoOptions | "help" {
  const values = split(args);
  if (values.help) return "help";
  const path = (given: string | undefined, fallback: string) =>
    given === undefined ? resolve(folders.repository, fallback) : resolve(folders.caller, given);
  const usualNoun = values.photo === undefined ? defaults.sampleNoun : defaults.classNoun;
  const classNoun = words("class-noun", values["class-noun"] ?? usualNoun);
  const usualCount = values.prompt === undefined ? defaults.countOfEach : defaults.count;
  const prompts = values.prompt?.map((prompt) => words("prompt", prompt)) ?? samplePrompts(classNoun);
  const count = wholeNumber("count", values.count ?? String(usualCount), numImages);
  // that of the last prompt's first portrait is the largest that is asked for
  const largestSeed = seedLimits.max - (prompts.length - 1) * count;
  return {
    photo: path(values.photo, defaults.photo),
    prompts,
    classNoun,
    seed: wholeNumber("seed", values.seed, { min: seedLimits.min, max: largestSeed }),
    steps: values.steps === undefined ? undefined : wholeNumber("steps", values.steps, numInferenceSteps),
    count,
    out: path(values.out, defaults.out),
  };
}
