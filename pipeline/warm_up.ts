import { zeros } from "../models/tensor.ts";
import type { Provider } from "../models/sessions.ts";
import { chooseBatchLimit } from "./batch_limit.ts";
import { type Conditioning, encodeConditioning } from "./conditioning.ts";
import { Denoiser, type Draft, startDraft } from "./denoise.ts";
import { defaultGuidance, type GuidanceSchedule, rowKinds } from "./guidance.ts";
import type { Pipeline } from "./pipeline.ts";
import { encodePrompt, encodeWords } from "./prompt.ts";
import { checkQuietPatches, countReferences } from "./references.ts";
import { createScheduler } from "./schedulers/create_scheduler.ts";

/** What will be served. */
export interface WarmUpSettings {
  readonly provider: Provider;
  /** most pictures in a batch; null has it measured */
  readonly maxBatch: number | null;
  /** milliseconds from any origin */
  readonly clock?: () => number;
}

/** Where measuring stops, by provider: a processor gains little from large batches. */
const LIMITS = { cpu: { most: 8, longestStep: 2 }, cuda: { most: 32, longestStep: 2 } } as const;

/** Guidance of one, two and three rows a picture, in this order: all that a request can ask for. */
const GUIDANCES: readonly GuidanceSchedule[] = [
  { scale: 1, identityScale: null, rescale: 0, early: null },
  { scale: 2, identityScale: null, rescale: 0, early: null },
  { scale: 2, identityScale: 1.5, rescale: 0, early: null },
];

/**
 * Runs every graph in the shapes it will be served in, so that no caller pays for a first run, and finds the batch
 * limit where none is given.
 *
 * On CUDA that is every number of rows a batch may have, for cuDNN searches the fastest kernels of each anew. On the
 * CPU, where the first run of a shape costs next to nothing beyond memory, it is every power of 2.
 *
 * @param pipeline the loaded bundle
 * @param settings what will be served
 * @returns most pictures in a batch
 * @throws {BundleError} `manifest_invalid` when the manifest names patches that no photo has
 *
 * @example
 * ```ts
 * const maxBatch = await warmUp(pipeline, { provider: "cpu", maxBatch: null });
 * ```
 */
export async function warmUp(pipeline: Pipeline, settings: WarmUpSettings): Promise<number> {
  const { provider, clock = () => performance.now() } = settings;
  const encode = await warmEncoders(pipeline);
  const conditionings: Conditioning[] = [];
  for (const guidance of GUIDANCES) conditionings.push(await encode(guidance));
  const denoiser = new Denoiser(pipeline.models);
  // pictures of one, two and three rows
  const step = async (counts: readonly number[], cacheInterval = 1) => {
    const drafts = counts.flatMap((count, index) =>
      Array.from(
        { length: count },
        () => draftOf(pipeline, conditionings[index]!, GUIDANCES[index]!, cacheInterval),
      )
    );
    const began = clock();
    await denoiser.step(drafts);
    // a second step runs the part that goes on from the first
    if (cacheInterval > 1) await denoiser.step(drafts);
    return (clock() - began) / 1000;
  };
  const usual = rowKinds(defaultGuidance(pipeline.manifest.defaults)).length;
  const usualStep = (pictures: number) =>
    step(GUIDANCES.map((_, index) => index + 1 === usual ? pictures : 0));
  await step([1]);
  await usualStep(1);
  const maxBatch = settings.maxBatch ?? await chooseBatchLimit(usualStep, LIMITS[provider]);
  if (provider === "cuda") {
    const caching = pipeline.models.cachedUnet === undefined ? 1 : 2;
    for (let rows = 1; rows <= GUIDANCES.length * maxBatch; rows++) {
      const triples = Math.floor(rows / 3);
      await step([Number(rows % 3 === 1), Number(rows % 3 === 2), triples], caching);
    }
  } else if (settings.maxBatch !== null) {
    for (let pictures = 2; pictures < maxBatch; pictures *= 2) await usualStep(pictures);
    await usualStep(maxBatch);
  }
  const { channels, size } = pipeline.manifest.latent;
  await pipeline.models.vaeDecoder(zeros([1, channels, size, size]));
  return maxBatch;
}

/** Runs the graphs before the UNet; gives a function that makes what steers a picture. */
async function warmEncoders(
  { models, manifest, tokenizer }: Pipeline,
): Promise<(guidance: GuidanceSchedule) => Promise<Conditioning>> {
  const { faces } = manifest;
  const square = (side: number) => zeros([1, 3, side, side]);
  await models.faceDetector(square(faces.detector.input_size));
  await models.faceLandmarks(square(faces.landmarks.input_size));
  const features = await models.imageEncoder(square(faces.image_encoder.input_size));
  checkQuietPatches(manifest.quiet_patches, features.patch_features.dims[1]!);
  const identity = await models.mixedFeatures(countReferences(manifest.max_reference_images, [{
    ...features,
    face_embedding: await models.faceRecognizer(square(faces.recognizer.input_size)),
  }]));
  const [classNoun] = manifest.class_nouns as [string];
  const prompt = encodePrompt(tokenizer, "a portrait", { classNoun, identifier: manifest.identifier });
  const nothing = encodeWords(tokenizer, "");
  return (guidance) =>
    encodeConditioning(
      rowKinds(guidance).map((kind) => ({
        kind,
        prompt: kind === "conditional" ? prompt : nothing,
      })),
      identity,
      models.textEncoder,
      manifest.unconditional_identity,
    );
}

function draftOf(
  { manifest: { latent, defaults }, schedulerConfig, noiseLevels }: Pipeline,
  conditioning: Conditioning,
  guidance: GuidanceSchedule,
  cacheInterval: number,
): Draft {
  return startDraft(0, {
    createScheduler: (generator) => createScheduler(defaults.scheduler, schedulerConfig, 2, generator),
    noiseLevels,
    conditioning,
    guidance,
    identityStrength: defaults.identity_strength,
    latentDims: [latent.channels, latent.size, latent.size],
    cacheInterval,
  });
}
