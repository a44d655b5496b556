/** From an edit in OpenAI's words to a generation in ours. */

import type { GenerationOptions } from "../openapi/generation.ts";
import type { ImageEdit } from "../openapi/image_edit.ts";
import { limits } from "../openapi/limits.ts";
import type { Manifest } from "../models/manifest.ts";
import { fieldProblem } from "./field_errors.ts";
import { checkPhotoCount } from "./generation_input.ts";
import type { FormFields } from "./request_body.ts";

/** How the form of an edit is read: Python's client sends an empty text for what is None. */
export const imageEditFields: FormFields = {
  lists: ["image"],
  numbers: [
    "n",
    "output_compression",
    "partial_images",
    "num_inference_steps",
    "guidance_scale",
    "identity_strength",
    "seed",
  ],
  booleans: ["stream"],
  aliases: new Map([["image[]", "image"]]),
  emptyIsAbsent: true,
};

/** What a person is taken to be who is named nowhere. */
const anyone = "person";

/**
 * Finds out what the person is: OpenAI's clients have no field for it.
 *
 * @param prompt what the portrait shows
 * @param nouns the model's `class_nouns`
 * @returns the first of the nouns in the prompt, as a word of its own in any case; else `person`, or the first noun of a
 * model without it
 *
 * @example
 * ```ts
 * findClassNoun("A Woman beside a man", ["man", "woman", "person"]); // "woman"
 * ```
 */
export function findClassNoun(prompt: string, nouns: readonly string[]): string {
  const words = prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.find((word) => nouns.includes(word)) ?? (nouns.includes(anyone) ? anyone : nouns[0] ?? anyone);
}

/** Denoising steps by quality, as shares of the model's own. */
const stepShares = { low: 0.5, auto: 1, standard: 1, medium: 1, high: 2 } as const;

/** Shares of the model's own identity strength. */
const strengthShares = { low: 0.5, high: 1 } as const;

/**
 * The size of a model's pictures, as OpenAI writes it.
 *
 * @param manifest of the model that is served
 */
export function sizeOf({ image_size }: Manifest): string {
  return `${image_size}x${image_size}`;
}

/**
 * Translates an edit.
 *
 * @param edit checked against its schema
 * @param manifest of the model that is served
 * @returns the fields of a generation but for its photos
 * @throws {ProblemError} `invalid_value` for another size, `too_many_reference_images`
 */
export function toGenerationOptions(edit: ImageEdit, manifest: Manifest): GenerationOptions {
  const { defaults } = manifest;
  const size = sizeOf(manifest);
  if (edit.size !== undefined && edit.size !== "auto" && edit.size !== size) {
    throw fieldProblem([{ pointer: "/size", code: "invalid_value", detail: `must be auto or ${size}` }]);
  }
  checkPhotoCount(edit.image.length, manifest, "image");
  const steps = edit.num_inference_steps ??
    Math.min(
      Math.ceil(defaults.num_inference_steps * stepShares[edit.quality ?? "auto"]),
      limits.numInferenceSteps.max,
    );
  const previews = edit.stream === true ? edit.partial_images ?? 0 : 0;
  return {
    prompt: edit.prompt,
    class_noun: edit.class_noun ?? findClassNoun(edit.prompt, manifest.class_nouns),
    negative_prompt: edit.negative_prompt,
    num_images: edit.n,
    num_inference_steps: steps,
    guidance_scale: edit.guidance_scale,
    identity_strength: edit.identity_strength ??
      defaults.identity_strength * strengthShares[edit.input_fidelity ?? "high"],
    scheduler: edit.scheduler,
    seed: edit.seed,
    output_format: edit.output_format,
    // so many previews before the picture itself
    preview_interval: previews === 0 ? 0 : Math.ceil(steps / (previews + 1)),
    model: edit.model,
  };
}
