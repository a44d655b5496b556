/** A checked request, completed with the model's defaults. */

import type { z } from "zod";
import {
  GenerationFormSchema,
  type GenerationOptions,
  GenerationRequestSchema,
} from "../openapi/generation.ts";
import { limits } from "../openapi/limits.ts";
import type { Manifest } from "../models/manifest.ts";
import type { GenerateInput } from "../pipeline/protocol.ts";
import { defaultGuidance } from "../pipeline/guidance.ts";
import { defaultNegativePrompt } from "../pipeline/prompt.ts";
import { fieldProblem } from "./field_errors.ts";
import { type BodySchemas, decodePhotoText, type PhotoBytes } from "./request_body.ts";

/** How a generation's body is read. */
export const generationBody = {
  json: GenerationRequestSchema,
  form: GenerationFormSchema,
  formFields: {
    lists: ["reference_images"],
    numbers: [
      "num_images",
      "num_inference_steps",
      "guidance_scale",
      "identity_guidance_scale",
      "early_guidance_scale",
      "early_identity_guidance_scale",
      "early_guidance_until",
      "guidance_rescale",
      "identity_strength",
      "pose_variation",
      "cache_interval",
      "preview_interval",
      "seed",
    ],
  },
} as const satisfies BodySchemas<z.ZodType, z.ZodType>;

/** Defaults no model decides. */
export const commonDefaults = {
  num_images: 1,
  cache_interval: 1,
  output_format: "png",
} as const;

/**
 * Decodes the photos of a JSON body.
 *
 * @param texts base64 or data URLs
 * @returns encoded photos
 * @throws {ProblemError} `base64_invalid` with a pointer to the first that is not
 */
export function decodeReferences(texts: readonly string[]): PhotoBytes[] {
  return texts.map((text, index) => decodePhotoText(text, `/reference_images/${index}`));
}

/**
 * Checks which model is asked for.
 *
 * @param model what the request names, if anything
 * @param manifest of the model that is served
 * @throws {ProblemError} `model_unknown`
 */
export function checkModel(model: string | null | undefined, manifest: Manifest): void {
  if (typeof model === "string" && model !== manifest.name) {
    throw fieldProblem([{
      pointer: "/model",
      code: "model_unknown",
      detail: `must be ${manifest.name} or left out`,
    }]);
  }
}

/**
 * Checks how many photos were sent.
 *
 * @param photos how many
 * @param manifest of the model that is served
 * @param field the name of the photos' field
 * @throws {ProblemError} `too_many_reference_images`
 */
export function checkPhotoCount(photos: number, manifest: Manifest, field: string): void {
  if (photos > manifest.max_reference_images) {
    throw fieldProblem([{
      pointer: `/${field}`,
      code: "too_many_reference_images",
      detail: `must hold at most ${manifest.max_reference_images} entries`,
    }]);
  }
}

/**
 * What a model takes as `cache_interval`.
 *
 * @param manifest of the model
 * @returns the contract's limits, or 1 alone where it has no graph for cached steps
 */
export function cacheIntervals({ graphs }: Manifest): { readonly min: number; readonly max: number } {
  return graphs.unet_shallow === undefined ? { min: 1, max: 1 } : limits.cacheInterval;
}

/** What the schema cannot know: which model is served and what it can do. */
function checkAgainstModel(photos: number, body: GenerationOptions, manifest: Manifest): void {
  checkModel(body.model, manifest);
  checkPhotoCount(photos, manifest, "reference_images");
  if (!manifest.class_nouns.includes(body.class_noun)) {
    throw fieldProblem([{
      pointer: "/class_noun",
      code: "class_noun_unknown",
      detail: `must be one of ${manifest.class_nouns.join(", ")}`,
    }]);
  }
  if ((body.cache_interval ?? commonDefaults.cache_interval) > cacheIntervals(manifest).max) {
    throw fieldProblem([{
      pointer: "/cache_interval",
      code: "cache_interval_unsupported",
      detail: "must be 1 or left out: this model has no graph for cached steps",
    }]);
  }
}

/** A seed that leaves room for seven more. */
function drawSeed(): number {
  const [word = 0] = crypto.getRandomValues(new Uint32Array(1));
  return word % (limits.seed.max + 1);
}

/**
 * Completes a request with defaults: the model's own, and a random seed.
 *
 * @param photos encoded photos
 * @param body the other fields, checked
 * @param manifest of the model that is served
 * @param randomSeed draws a seed, 0 to 2^32 - 9
 * @returns the pipeline's input
 * @throws {ProblemError} `model_unknown`, `too_many_reference_images`, `class_noun_unknown` or
 *   `cache_interval_unsupported`
 */
export function toGenerateInput(
  photos: readonly PhotoBytes[],
  body: GenerationOptions,
  manifest: Manifest,
  randomSeed: () => number = drawSeed,
): GenerateInput {
  checkAgainstModel(photos.length, body, manifest);
  const { defaults } = manifest;
  const guidance = defaultGuidance(defaults);
  return {
    referenceImages: photos,
    prompt: body.prompt,
    classNoun: body.class_noun,
    negativePrompt: body.negative_prompt ?? defaultNegativePrompt(body.prompt, manifest),
    numImages: body.num_images ?? commonDefaults.num_images,
    numInferenceSteps: body.num_inference_steps ?? defaults.num_inference_steps,
    guidanceScale: body.guidance_scale ?? guidance.scale,
    identityGuidanceScale: body.identity_guidance_scale ?? guidance.identityScale,
    earlyGuidance: {
      untilTimestep: body.early_guidance_until ?? guidance.early.untilTimestep,
      // who asks for a scale means all steps, unless these are told apart
      scale: body.early_guidance_scale ?? body.guidance_scale ?? guidance.early.scale,
      identityScale: body.early_identity_guidance_scale ?? body.identity_guidance_scale ??
        guidance.early.identityScale,
    },
    guidanceRescale: body.guidance_rescale ?? guidance.rescale,
    identityStrength: body.identity_strength ?? defaults.identity_strength,
    poseVariation: body.pose_variation ?? defaults.pose_variation,
    scheduler: body.scheduler ?? defaults.scheduler,
    cacheInterval: body.cache_interval ?? commonDefaults.cache_interval,
    seed: body.seed ?? randomSeed(),
    outputFormat: body.output_format ?? commonDefaults.output_format,
  };
}
