/** Examples of the contract; a test holds each against its schema. */

import type { z } from "@hono/zod-openapi";
import type { FaceReportBody, FaceRequestSchema } from "./face.ts";
import type { Generation, GenerationImage, GenerationRequestSchema, GenerationState } from "./generation.ts";
import type { Model } from "./model.ts";
import { createProblem } from "./problem.ts";

/** A PNG of one grey pixel, base64: short enough to print, real enough to decode. */
export const tinyPng =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";

/** The least a request needs. */
export const shortGenerationRequest: z.input<typeof GenerationRequestSchema> = {
  reference_images: [tinyPng],
  prompt: "a pencil sketch of a smiling woman",
  class_noun: "woman",
};

/** A request that leaves nothing to defaults. */
export const fullGenerationRequest: z.input<typeof GenerationRequestSchema> = {
  reference_images: [`data:image/png;base64,${tinyPng}`],
  prompt: "an old man with a white beard, side view",
  class_noun: "man",
  negative_prompt: "hat",
  num_images: 4,
  num_inference_steps: 20,
  guidance_scale: 3,
  identity_guidance_scale: 2,
  early_guidance_scale: 4,
  early_identity_guidance_scale: 1,
  early_guidance_until: 800,
  guidance_rescale: 0.7,
  identity_strength: 0.8,
  pose_variation: 15,
  scheduler: "dpmpp_2m",
  cache_interval: 2,
  seed: 42,
  output_format: "webp",
  preview_interval: 5,
};

const identifying = {
  id: "gen_0f7a3f60-31a7-4f3e-9d0e-0b6a5b2f4c11",
  model: "idadapter-mini",
  created_at: "2026-03-01T12:00:00.000Z",
};

const image: GenerationImage = {
  index: 0,
  seed: 42,
  content_type: "image/png",
  width: 128,
  height: 128,
  url: `/v1/generations/${identifying.id}/images/0`,
  identity_similarity: 0.6134,
};

const timings = {
  queue: 0,
  references: 0.08,
  prompt: 0.01,
  denoise: 0.92,
  decode: 0.06,
  encode: 0.01,
  total: 1.08,
};

/** What comes back later: images by their addresses. */
export const finishedGeneration: Generation = {
  ...identifying,
  status: "succeeded",
  images: [image],
  timings,
  usage: { images: 1, steps: 20 },
  expires_at: "2026-03-01T12:15:01.080Z",
};

/** What comes back at once: images with their bytes. */
export const generation: Generation = { ...finishedGeneration, images: [{ ...image, data: tinyPng }] };

/** What `Prefer: respond-async` gets. */
export const queuedGeneration: GenerationState = {
  ...identifying,
  status: "queued",
  progress: null,
  images: [],
};

/** In the middle of it. */
export const runningGeneration: GenerationState = {
  ...identifying,
  status: "running",
  progress: { stage: "denoise", step: 7, steps: 20 },
  images: [],
};

/** One that was canceled. */
export const canceledGeneration: GenerationState = {
  ...identifying,
  status: "canceled",
  error: createProblem("canceled", {
    detail: "The generation was canceled",
    requestId: "7a1f2c9e-0c1b-4d52-8f0e-3b1f6a1f9d11",
  }),
  expires_at: "2026-03-01T12:15:00.500Z",
};

const events: readonly (readonly [event: string, data: unknown])[] = [
  ["queued", queuedGeneration],
  ["started", { ...queuedGeneration, status: "running" }],
  ["progress", { stage: "references", step: 0, steps: 0 }],
  ["progress", { stage: "denoise", step: 1, steps: 20 }],
  ["image", { ...image, data: tinyPng }],
  ["succeeded", finishedGeneration],
];

/** What the stream of the same request looks like. */
export const generationEvents = events
  .map(([event, data], index) => `event: ${event}\ndata: ${JSON.stringify(data)}\nid: ${index + 1}\n`)
  .join("\n");

/** A photo to check. */
export const faceRequest: z.input<typeof FaceRequestSchema> = { image: tinyPng };

/** A photo that will do. */
export const faceReport: FaceReportBody = {
  width: 640,
  height: 480,
  faces: [{
    box: { x: 212, y: 96, width: 180, height: 214 },
    score: 0.98,
    landmarks: [[262, 180], [344, 178], [301, 228], [270, 268], [338, 266]],
  }],
  usable: true,
  problems: [],
};

/** A photo that will not. */
export const unusableFaceReport: FaceReportBody = {
  width: 640,
  height: 480,
  faces: [],
  usable: false,
  problems: [{ code: "face_not_found", message: "The photo shows no face.", blocking: true }],
};

/** The embedded model. */
export const model: Model = {
  id: "idadapter-mini",
  object: "model",
  created: 0,
  owned_by: "idadapter",
  version: "1.0.0",
  description: "IDAdapter at 128 x 128 pixels",
  license: "research only",
  image_size: 128,
  class_nouns: ["man", "woman", "boy", "girl", "person"],
  schedulers: ["ddim", "euler", "euler_ancestral", "euler_restart", "dpmpp_2m", "dpmpp_2m_sde", "unipc"],
  output_formats: ["png", "jpeg", "webp"],
  defaults: {
    negative_prompt: "a cartoon",
    num_images: 1,
    num_inference_steps: 20,
    guidance_scale: 3,
    identity_guidance_scale: null,
    early_guidance_scale: null,
    early_identity_guidance_scale: null,
    early_guidance_until: 800,
    guidance_rescale: 0,
    identity_strength: 1,
    pose_variation: 0,
    cache_interval: 1,
    scheduler: "dpmpp_2m",
    output_format: "png",
  },
  limits: {
    max_reference_images: 4,
    max_prompt_characters: 1000,
    max_body_bytes: 33_554_432,
    num_images: { min: 1, max: 8 },
    num_inference_steps: { min: 1, max: 100 },
    guidance_scale: { min: 1, max: 20 },
    identity_guidance_scale: { min: 0, max: 20 },
    early_guidance_scale: { min: 1, max: 20 },
    early_identity_guidance_scale: { min: 0, max: 20 },
    early_guidance_until: { min: 0, max: 1000 },
    guidance_rescale: { min: 0, max: 1 },
    identity_strength: { min: 0, max: 2 },
    pose_variation: { min: 0, max: 20 },
    cache_interval: { min: 1, max: 10 },
    seed: { min: 0, max: 4_294_967_287 },
  },
};
