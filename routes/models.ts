/** `GET /v1/models` */

import { Hono } from "hono";
import type { Manifest } from "../models/manifest.ts";
import { OutputFormatSchema, SchedulerSchema } from "../openapi/generation.ts";
import { limits } from "../openapi/limits.ts";
import type { Model } from "../openapi/model.ts";
import { listModels } from "../openapi/operations.ts";
import { type AppEnv, type AppOptions, requireModel } from "./app_options.ts";
import { cacheIntervals, commonDefaults } from "./generation_input.ts";
import { admit } from "./middleware/admit.ts";

function toModel(manifest: Manifest, maxBodyBytes: number): Model {
  return {
    id: manifest.name,
    object: "model",
    created: 0,
    owned_by: "idadapter",
    version: manifest.version,
    description: manifest.description,
    license: manifest.license,
    image_size: manifest.image_size,
    class_nouns: manifest.class_nouns,
    schedulers: [...SchedulerSchema.options],
    output_formats: [...OutputFormatSchema.options],
    defaults: { ...commonDefaults, ...manifest.defaults },
    limits: {
      max_reference_images: manifest.max_reference_images,
      max_prompt_characters: limits.prompt.max,
      max_body_bytes: maxBodyBytes,
      num_images: limits.numImages,
      num_inference_steps: limits.numInferenceSteps,
      guidance_scale: limits.guidanceScale,
      identity_guidance_scale: limits.identityGuidanceScale,
      early_guidance_scale: limits.guidanceScale,
      early_identity_guidance_scale: limits.identityGuidanceScale,
      early_guidance_until: limits.earlyGuidanceUntil,
      guidance_rescale: limits.guidanceRescale,
      identity_strength: limits.identityStrength,
      pose_variation: limits.poseVariation,
      cache_interval: cacheIntervals(manifest),
      seed: limits.seed,
    },
  };
}

/**
 * The resource that tells what can be asked for.
 *
 * @param options of the app
 * @returns a Hono app with one route
 */
export function models(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get(listModels.path, admit(options, "models:read"), (c) => {
    const { manifest } = requireModel(options);
    c.header("Cache-Control", "no-store");
    return c.json({ object: "list", data: [toModel(manifest, options.maxBodyBytes)] });
  });
  return app;
}
