/** What `POST /v1/generations` takes and gives. Names are those of diffusers and its hosted peers. */

import { z } from "@hono/zod-openapi";
import type { GenerateProgress, OutputFormat, SchedulerName } from "../pipeline/protocol.ts";
import { limits } from "./limits.ts";
import { openEnum } from "./open_enum.ts";
import { ProblemSchema } from "./problem.ts";

/** A whole number that may not fit into 32 bits, which is what a client makes of it unless it is told. */
export const wide = { format: "int64" } as const;

/** A photo in JSON: base64 (RFC 4648, section 4) or a base64 data URL (RFC 2397). */
export const EncodedPhotoSchema = z.string().min(1).openapi({
  description: "a JPEG, PNG, WebP or AVIF photo as base64 or as a base64 data URL; addresses are not fetched",
});

/** A photo in a form: the bytes of an uploaded file. */
export const UploadedPhotoSchema = z.instanceof(Uint8Array<ArrayBuffer>, { error: "expected a file" })
  .openapi({
    type: "string",
    format: "binary",
    description: "a JPEG, PNG, WebP or AVIF file",
  });

const schedulerNames = [
  "ddim",
  "euler",
  "euler_ancestral",
  "euler_restart",
  "dpmpp_2m",
  "dpmpp_2m_sde",
  "unipc",
] as const satisfies readonly SchedulerName[];
const outputFormats = ["png", "jpeg", "webp"] as const satisfies readonly OutputFormat[];
const stages = [
  "references",
  "prompt",
  "denoise",
  "decode",
  "encode",
] as const satisfies readonly GenerateProgress[
  "stage"
][];

/** The samplers of the pipeline. */
export const SchedulerSchema = z.enum(schedulerNames).openapi("Scheduler", {
  description:
    "sampler: DDIM, Euler, Euler ancestral, the same with two restarts (`euler_restart`: noise is added to the " +
    "finished picture and taken away again, which mends it), DPM-Solver++ 2M, the same with noise at every step " +
    "(`dpmpp_2m_sde`), or UniPC",
});

/** Encodings of a portrait. */
export const OutputFormatSchema = z.enum(outputFormats).openapi("OutputFormat");

const referencesDescription = "photos of one person, one face each; how many the model mixes at most is " +
  "`limits.max_reference_images` of GET /v1/models";

const options = {
  prompt: z.string().max(limits.prompt.max).regex(/\S/).describe(
    "what the portrait shows; the model adds the class noun and the person itself. Longer than the model's " +
      "tokenizer allows is refused, never cut",
  ),
  class_noun: z.string().min(1).max(64).describe("what the person is: one of the model's `class_nouns`"),
  negative_prompt: z.string().max(limits.prompt.max).nullish().describe(
    "what to keep out; default from the model, and empty where `prompt` asks for a drawing",
  ),
  num_images: z.int().min(limits.numImages.min).max(limits.numImages.max).nullish()
    .describe("portraits to make, each from its own seed; default 1"),
  num_inference_steps: z.int().min(limits.numInferenceSteps.min).max(limits.numInferenceSteps.max).nullish()
    .describe("denoising steps; default from the model"),
  guidance_scale: z.number().min(limits.guidanceScale.min).max(limits.guidanceScale.max).nullish()
    .describe(
      "classifier-free guidance, how closely to follow the prompt; 1 turns it off, and with an `identity_guidance_scale` " +
        "of 1 all guidance. Holds at all steps, or from `early_guidance_until` on where that of the first ones is given " +
        "too; default from the model",
    ),
  identity_guidance_scale: z.number().min(limits.identityGuidanceScale.min)
    .max(limits.identityGuidanceScale.max).nullish().describe(
      "guidance towards the person by a scale of its own; default from the model, which may have none: then it is the " +
        "`guidance_scale`. Scales that differ make a generation half as slow again",
    ),
  early_guidance_scale: z.number().min(limits.guidanceScale.min).max(limits.guidanceScale.max).nullish()
    .describe(
      "the `guidance_scale` of the first denoising steps, which settle view, expression and what is worn; default the " +
        "request's own `guidance_scale`, and without one from the model",
    ),
  early_identity_guidance_scale: z.number().min(limits.identityGuidanceScale.min)
    .max(limits.identityGuidanceScale.max).nullish().describe(
      "the `identity_guidance_scale` of the first denoising steps: the smaller, the less the portrait keeps of the " +
        "photo's own view and expression; default the request's own `identity_guidance_scale`, and without one from the model",
    ),
  early_guidance_until: z.number().min(limits.earlyGuidanceUntil.min).max(limits.earlyGuidanceUntil.max)
    .nullish()
    .describe(
      "the last timestep of these first steps, which go from 1000 down to 0; 1000 for none of them; default from " +
        "the model",
    ),
  guidance_rescale: z.number().min(limits.guidanceRescale.min).max(limits.guidanceRescale.max).nullish()
    .describe(
      "how much of its natural contrast a strongly guided picture gets back, 0 for none; default from the model",
    ),
  identity_strength: z.number().min(limits.identityStrength.min).max(limits.identityStrength.max).nullish()
    .describe(
      "how strongly the person's look is injected: 1 as trained, lower is freer; default from the model",
    ),
  pose_variation: z.number().min(limits.poseVariation.min).max(limits.poseVariation.max).nullish().describe(
    "degrees: heads look up to so far to either side of where the reference photo looks, each image's otherwise, as its " +
      "seed says; 0 for all as in the photo. Where the prompt tells a view, that counts instead; default from the model",
  ),
  scheduler: SchedulerSchema.nullish().describe("default from the model"),
  cache_interval: z.int().min(limits.cacheInterval.min).max(limits.cacheInterval.max).nullish()
    .describe(
      "all of the model runs at every so many denoising steps, and at the others the part that changes most (DeepCache): " +
        "quicker, and coarser the larger it is. Default 1, all of it at every step; `limits` of GET /v1/models tells what " +
        "the model takes",
    ),
  seed: z.int().min(limits.seed.min).max(limits.seed.max).nullish()
    .describe("image i is made from seed + i; the same seed gives the same picture; default random")
    .openapi(wide),
  output_format: OutputFormatSchema.nullish().describe("default png"),
  preview_interval: z.int().min(limits.previewInterval.min).max(limits.previewInterval.max).nullish()
    .describe(
      "denoising steps from one `preview` event of an image to the next; 0 or left out for none. Each costs about as " +
        "much as decoding an image",
    ),
  model: z.string().min(1).max(128).nullish().describe("an `id` of GET /v1/models; default the one served"),
};

/** A generation asked for in JSON. */
export const GenerationRequestSchema = z.strictObject({
  reference_images: z.array(EncodedPhotoSchema).min(limits.referenceImages.min).max(
    limits.referenceImages.max,
  )
    .describe(referencesDescription),
  ...options,
}).openapi("GenerationRequest");

/** A generation asked for with a form; the same fields, photos as files. */
export const GenerationFormSchema = z.strictObject({
  reference_images: z.array(UploadedPhotoSchema).min(limits.referenceImages.min).max(
    limits.referenceImages.max,
  )
    .describe(`${referencesDescription}; repeat the field for several`),
  ...options,
}).openapi("GenerationForm");

/** All fields but the photos: what both kinds of request share. */
export type GenerationOptions = Omit<z.infer<typeof GenerationFormSchema>, "reference_images">;

const seconds = z.number().min(0).describe("seconds");

/** A finished portrait. */
export const GenerationImageSchema = z.strictObject({
  index: z.int().min(0),
  seed: z.int().min(0).describe("the seed of this very image: asking for it alone gives the same picture")
    .openapi(wide),
  content_type: z.enum(["image/png", "image/jpeg", "image/webp"]),
  width: z.int().min(1),
  height: z.int().min(1),
  url: z.string().describe(
    "where the image file is, relative to the service's address, for as long as it is kept",
  ),
  data: z.string().optional().describe(
    "the image file, base64: in a JSON answer that was waited for, and in `image` events",
  ),
  identity_similarity: z.number().min(-1).max(1).nullable().describe(
    "cosine between this face and the reference photos' mean by the model's own recogniser; null when no face " +
      "was found in the portrait",
  ),
}).openapi("GenerationImage");

/** A finished portrait, see {@linkcode GenerationImageSchema}. */
export type GenerationImage = z.infer<typeof GenerationImageSchema>;

/** Wall-clock seconds by stage. */
export const GenerationTimingsSchema = z.strictObject({
  queue: seconds,
  references: seconds,
  prompt: seconds,
  denoise: seconds,
  decode: seconds,
  encode: seconds,
  total: seconds,
}).openapi("GenerationTimings", {
  description:
    "wall-clock seconds by stage, each from the end of the one before, waiting for others included",
});

/** What every generation tells of itself. */
const identifying = {
  id: z.string().describe("names this generation, in addresses and in the service's log"),
  model: z.string().describe(
    "the one that makes it; while a new model rolls out, not always the one that was asked",
  ),
  created_at: z.iso.datetime(),
};

/** When a finished generation is forgotten. */
const expiresAt = z.iso.datetime().describe("until when it is kept");

/** Data of a `progress` event. */
export const GenerationProgressSchema = z.strictObject({
  stage: openEnum(stages, "what is being done; stages may be added"),
  step: z.int().min(0).describe("denoising steps done, the mean over the images rounded down"),
  steps: z.int().min(0).describe("denoising steps in all; 0 before the stage `denoise`"),
}).openapi("GenerationProgress");

/** A generation that succeeded. */
export const GenerationSchema = z.strictObject({
  ...identifying,
  status: z.literal("succeeded"),
  images: z.array(GenerationImageSchema),
  timings: GenerationTimingsSchema,
  usage: z.strictObject({
    images: z.int().min(0),
    steps: z.int().min(0).describe("denoising steps over all images"),
  }),
  expires_at: expiresAt,
}).openapi("Generation");

/** A generation that succeeded, see {@linkcode GenerationSchema}. */
export type Generation = z.infer<typeof GenerationSchema>;

/** A generation that is not finished. */
export const PendingGenerationSchema = z.strictObject({
  ...identifying,
  status: z.enum(["queued", "running"]),
  // not nullable(): the document would say of the events' GenerationProgress too that it may be null
  progress: z.union([GenerationProgressSchema, z.null()]).describe("null while it is queued"),
  images: z.array(GenerationImageSchema).describe("empty until it has succeeded"),
}).openapi("PendingGeneration");

/** A generation that ended without portraits. */
export const FailedGenerationSchema = z.strictObject({
  ...identifying,
  status: z.enum(["failed", "canceled", "expired"]).describe("expired: nobody could start it in time"),
  error: ProblemSchema,
  expires_at: expiresAt,
}).openapi("FailedGeneration");

/** A generation in any state; `status` tells which. */
export const GenerationStateSchema = z.discriminatedUnion("status", [
  PendingGenerationSchema,
  GenerationSchema,
  FailedGenerationSchema,
]).openapi("GenerationState");

/** A generation in any state, see {@linkcode GenerationStateSchema}. */
export type GenerationState = z.infer<typeof GenerationStateSchema>;

/** Data of a `preview` event. */
export const GenerationPreviewSchema = z.strictObject({
  index: z.int().min(0).describe("which image"),
  step: z.int().min(1).describe("denoising steps this image had taken"),
  steps: z.int().min(1),
  content_type: z.literal("image/jpeg"),
  width: z.int().min(1),
  height: z.int().min(1),
  data: z.string().describe("the image file, base64: half the side of a portrait, 256 pixels at most"),
}).openapi("GenerationPreview");

/** Data of a `preview` event, see {@linkcode GenerationPreviewSchema}. */
export type GenerationPreview = z.infer<typeof GenerationPreviewSchema>;
