/** What `GET /v1/models` gives. */

import { z } from "@hono/zod-openapi";
import { OutputFormatSchema, SchedulerSchema } from "./generation.ts";

// a name of its own: a client's type is called by it, and Range is taken in most languages
const range = z.strictObject({ min: z.number(), max: z.number() }).openapi("NumberRange");

/** One model that can be asked for. */
export const ModelSchema = z.strictObject({
  id: z.string().describe("what a generation's `model` may hold"),
  object: z.literal("model").describe("for OpenAI's clients"),
  created: z.int().describe("for OpenAI's clients; 0, since a bundle does not tell when it was made"),
  owned_by: z.string().describe("for OpenAI's clients"),
  version: z.string(),
  description: z.string(),
  license: z.string().describe("of the weights: what the portraits may be used for"),
  image_size: z.int().describe("side of a portrait in pixels"),
  class_nouns: z.array(z.string()),
  schedulers: z.array(SchedulerSchema),
  output_formats: z.array(OutputFormatSchema),
  defaults: z.strictObject({
    negative_prompt: z.string(),
    num_images: z.int(),
    num_inference_steps: z.int(),
    guidance_scale: z.number(),
    identity_guidance_scale: z.number().nullable().describe("null: as `guidance_scale`"),
    early_guidance_scale: z.number().nullable().describe("null: as `guidance_scale`"),
    early_identity_guidance_scale: z.number().nullable().describe("null: as `identity_guidance_scale`"),
    early_guidance_until: z.number(),
    guidance_rescale: z.number(),
    identity_strength: z.number(),
    pose_variation: z.number(),
    cache_interval: z.int(),
    scheduler: SchedulerSchema,
    output_format: OutputFormatSchema,
  }).describe("what a field that is left out, or null, stands for"),
  limits: z.strictObject({
    max_reference_images: z.int(),
    max_prompt_characters: z.int(),
    max_body_bytes: z.int(),
    num_images: range,
    num_inference_steps: range,
    guidance_scale: range,
    identity_guidance_scale: range,
    early_guidance_scale: range,
    early_identity_guidance_scale: range,
    early_guidance_until: range,
    guidance_rescale: range,
    identity_strength: range,
    pose_variation: range,
    cache_interval: range,
    seed: range,
  }),
}).openapi("Model");

/** A model as it is sent, see {@linkcode ModelSchema}. */
export type Model = z.infer<typeof ModelSchema>;

/** All models of the service. */
export const ModelListSchema = z.strictObject({
  object: z.literal("list").describe("for OpenAI's clients"),
  data: z.array(ModelSchema),
}).openapi("ModelList");
