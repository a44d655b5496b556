import { zeros } from "../models/tensor.ts";
import { encodeConditioning } from "./conditioning.ts";
import { denoise } from "./denoise.ts";
import type { Pipeline } from "./pipeline.ts";
import { encodeNegativePrompt, encodePrompt } from "./prompt.ts";
import { countReferences } from "./references.ts";
import { createScheduler } from "./schedulers/create_scheduler.ts";

/**
 * Runs every graph once in each shape it will be served in, so that no caller pays for the first run (memory arenas
 * on the CPU, cuDNN's search for the fastest kernels on CUDA).
 *
 * @param pipeline the loaded bundle
 * @param pictures how many pictures a request may ask for, each a shape of its own: [1] is enough on the CPU, where
 *   the first run of another shape costs next to nothing
 *
 * @example
 * ```ts
 * await warmUp(pipeline, [1]);
 * ```
 */
export async function warmUp(pipeline: Pipeline, pictures: readonly number[]): Promise<void> {
  const { models, manifest, tokenizer } = pipeline;
  const { faces, latent } = manifest;
  const square = (side: number) => zeros([1, 3, side, side]);
  await models.faceDetector(square(faces.detector.input_size));
  await models.faceLandmarks(square(faces.landmarks.input_size));
  const identity = await models.mixedFeatures(countReferences(manifest.max_reference_images, [{
    ...await models.imageEncoder(square(faces.image_encoder.input_size)),
    face_embedding: await models.faceRecognizer(square(faces.recognizer.input_size)),
  }]));
  const [classNoun] = manifest.class_nouns as [string];
  const prompt = encodePrompt(tokenizer, "a portrait", { classNoun, identifier: manifest.identifier });
  for (const negativePrompt of [null, encodeNegativePrompt(tokenizer, "")]) {
    const conditioning = await encodeConditioning(
      prompt,
      negativePrompt,
      identity,
      models.textEncoder,
      manifest.unconditional_identity,
    );
    for (const count of pictures) {
      await denoise(models.unet, conditioning, {
        latentDims: [latent.channels, latent.size, latent.size],
        seeds: Array.from({ length: count }, (_, seed) => seed),
        guidanceScale: negativePrompt === null ? 1 : manifest.defaults.guidance_scale,
        identityStrength: manifest.defaults.identity_strength,
        createScheduler: (generator) =>
          createScheduler(manifest.defaults.scheduler, pipeline.schedulerConfig, 1, generator),
        betweenSteps: () => Promise.resolve(),
      });
    }
  }
  await models.vaeDecoder(zeros([1, latent.channels, latent.size, latent.size]));
}
