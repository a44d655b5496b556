import { encodeConditioning } from "./conditioning.ts";
import { denoise } from "./denoise.ts";
import { encodeImage, toPicture } from "./encode_image.ts";
import { identitySimilarity } from "./identity.ts";
import type { Photo } from "./photo.ts";
import type { Pipeline } from "./pipeline.ts";
import { type EncodedPrompt, encodeNegativePrompt, encodePrompt } from "./prompt.ts";
import { type GeneratedImage, type GenerateInput, type GenerateOutput, PipelineError } from "./protocol.ts";
import { readReferences, type ReferencePerson } from "./references.ts";
import { createScheduler } from "./schedulers/create_scheduler.ts";
import { type GenerateOptions, StageClock } from "./stages.ts";

/** A finished picture and how much it looks like its person. */
interface Portrait {
  readonly picture: Photo;
  readonly identitySimilarity: number | null;
}

/**
 * Makes portraits: IDAdapter's inference from photos and prompt to encoded pictures.
 *
 * @param pipeline the loaded bundle
 * @param input the request
 * @param options progress, cancellation, sharing of the thread
 * @returns the portraits and seconds by stage
 * @throws {PipelineError} when the input is refused, or `canceled`
 *
 * @example
 * ```ts
 * const { images } = await generate(pipeline, input, { onProgress: console.log });
 * ```
 */
export async function generate(
  pipeline: Pipeline,
  input: GenerateInput,
  options: GenerateOptions = {},
): Promise<GenerateOutput> {
  const { models, manifest } = pipeline;
  const stages = new StageClock(options);
  const seeds = Array.from({ length: input.numImages }, (_, index) => input.seed + index);
  // Words are cheap to check: refuse them before any photo is looked at.
  const prompts = tokenize(pipeline, input);

  await stages.enter("references");
  const person = await readReferences(input.referenceImages, models, manifest);

  await stages.enter("prompt");
  const conditioning = await encodeConditioning(
    prompts.prompt,
    prompts.negativePrompt,
    person,
    models.textEncoder,
    manifest.unconditional_identity,
  );

  const { channels, size } = manifest.latent;
  await stages.enter("denoise", input.numInferenceSteps);
  const latents = await denoise(models.unet, conditioning, {
    latentDims: [channels, size, size],
    seeds,
    guidanceScale: input.guidanceScale,
    identityStrength: input.identityStrength,
    createScheduler: (generator) =>
      createScheduler(input.scheduler, pipeline.schedulerConfig, input.numInferenceSteps, generator),
    betweenSteps: (step, steps) => stages.step(step, steps),
  });

  await stages.enter("decode");
  const portraits: Portrait[] = [];
  for (const latent of latents) {
    const picture = toPicture(await models.vaeDecoder(latent));
    portraits.push({ picture, identitySimilarity: await likeness(pipeline, picture, person) });
    await stages.giveWay();
  }

  await stages.enter("encode");
  const images = await Promise.all(
    portraits.map((portrait, index) => encodePortrait(portrait, index, seeds[index]!, input)),
  );
  return { images, timings: stages.timings() };
}

/** Both rows of ids; the unconditional one is null when guidance is off. */
function tokenize(
  { tokenizer, manifest }: Pipeline,
  { prompt, negativePrompt, classNoun, guidanceScale }: GenerateInput,
): { prompt: EncodedPrompt; negativePrompt: EncodedPrompt | null } {
  if (!manifest.class_nouns.includes(classNoun)) {
    throw new PipelineError(
      "class_noun_unknown",
      `There is no such class noun: choose one of ${manifest.class_nouns.join(", ")}`,
    );
  }
  return {
    prompt: encodePrompt(tokenizer, prompt, { classNoun, identifier: manifest.identifier }),
    negativePrompt: guidanceScale === 1 ? null : encodeNegativePrompt(tokenizer, negativePrompt),
  };
}

function likeness(
  { models, manifest }: Pipeline,
  picture: Photo,
  person: ReferencePerson,
): Promise<number | null> {
  return identitySimilarity(picture, person.face_embedding.data, models, manifest.faces);
}

async function encodePortrait(
  { picture, identitySimilarity }: Portrait,
  index: number,
  seed: number,
  { outputFormat }: GenerateInput,
): Promise<GeneratedImage> {
  const { width, height } = picture;
  return { index, seed, width, height, identitySimilarity, ...await encodeImage(picture, outputFormat) };
}
