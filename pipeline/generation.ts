import type { Manifest } from "../models/manifest.ts";
import type { Identity } from "../models/mixed_features.ts";
import { type Conditioning, encodeConditioning, type RowPrompt } from "./conditioning.ts";
import { type Draft, type DraftStep, isDenoised, startDraft } from "./denoise.ts";
import { encodeImage, toPicture } from "./encode_image.ts";
import { type GuidanceRowKind, type GuidanceSchedule, rowKinds } from "./guidance.ts";
import { identitySimilarity } from "./identity.ts";
import type { Photo } from "./photo.ts";
import type { Pipeline } from "./pipeline.ts";
import { PreviewMaker } from "./preview_maker.ts";
import { type EncodedPrompt, encodePrompt, encodeWords, toldPlaces, toldView } from "./prompt.ts";
import {
  type GeneratedImage,
  type GenerateEvent,
  type GenerateInput,
  type GenerateOutput,
  PipelineError,
} from "./protocol.ts";
import { readReferences, type ReferencePerson, type TakeTurn } from "./references.ts";
import { createScheduler } from "./schedulers/create_scheduler.ts";
import type { StageClock } from "./stages.ts";
import { type HeadTurn, SIDE_VIEW, turnOfSeed } from "./turned_head.ts";

/** What a generation needs of the engine that runs it among others. */
export interface GenerationSurroundings {
  readonly stages: StageClock;
  readonly takeTurn: TakeTurn;
  /** for stages that may as well be left out: runs one when no other stage waits */
  readonly takeSpareTurn: TakeTurn;
  /** advances a picture in the shared batch until it is denoised */
  readonly denoise: (draft: Draft, onStep: (step: DraftStep) => void) => Promise<void>;
  readonly onEvent: (event: GenerateEvent) => void;
  /** denoising steps from one preview of a picture to the next; 0 for none */
  readonly previewInterval: number;
}

/**
 * Makes portraits: IDAdapter's inference from photos and prompt to encoded pictures.
 *
 * @param pipeline the loaded bundle
 * @param input the request
 * @param surroundings where its stages and steps run, and who is told
 * @returns the portraits and seconds by stage
 * @throws {PipelineError} when the input is refused, or whatever the surroundings end it with
 *
 * @example
 * ```ts
 * const { images } = await runGeneration(pipeline, input, surroundings);
 * ```
 */
export async function runGeneration(
  pipeline: Pipeline,
  input: GenerateInput,
  surroundings: GenerationSurroundings,
): Promise<GenerateOutput> {
  const { models, manifest } = pipeline;
  const { stages, takeTurn, onEvent } = surroundings;
  // Words are cheap to check: refuse them before any photo is looked at.
  const guidance: GuidanceSchedule = {
    scale: input.guidanceScale,
    identityScale: input.identityGuidanceScale,
    rescale: input.guidanceRescale,
    early: input.earlyGuidance ?? null,
  };
  const prompts = encodeRowPrompts(pipeline, input, guidance);

  const seeds = Array.from({ length: input.numImages }, (_, index) => input.seed + index);

  stages.enter("references");
  const asked = {
    turns: headTurns(input, seeds, manifest.view_words),
    quiet: toldPlaces(input.prompt, manifest.quiet_patches),
  };
  const person = await readReferences(input.referenceImages, models, manifest, asked, takeTurn);

  stages.enter("prompt");
  const conditionings = new Map<Identity, Conditioning>();
  for (const identity of new Set(person.identities)) {
    const encode = () =>
      encodeConditioning(prompts, identity, models.textEncoder, manifest.unconditional_identity);
    conditionings.set(identity, await takeTurn(encode));
  }

  // Few ask for it, so it is loaded when first asked for: in a turn, not in everybody's step.
  if (input.cacheInterval > 1) await takeTurn(async () => void await models.cachedUnet?.());

  const { channels, size } = manifest.latent;
  const drafts = seeds.map((seed, index) =>
    startDraft(seed, {
      createScheduler: (generator) =>
        createScheduler(input.scheduler, pipeline.schedulerConfig, input.numInferenceSteps, generator),
      noiseLevels: pipeline.noiseLevels,
      conditioning: conditionings.get(person.identities[index]!)!,
      guidance,
      identityStrength: input.identityStrength,
      latentDims: [channels, size, size],
      cacheInterval: input.cacheInterval,
    })
  );
  stages.enter("denoise", input.numInferenceSteps);
  const previews = new PreviewMaker(pipeline, surroundings);
  const decoded = { pictures: 0 };
  const images = await Promise.all(drafts.map(async (draft, index): Promise<GeneratedImage> => {
    await surroundings.denoise(draft, (step) => {
      stages.step(meanStep(drafts));
      previews.offer(draft, index, step);
    });
    if (drafts.every(isDenoised)) stages.enter("decode");

    const portrait = await takeTurn(() => decodePortrait(pipeline, draft, person));
    if (++decoded.pictures === drafts.length) stages.enter("encode");

    const image = await encodePortrait(portrait, index, seeds[index]!, input);
    onEvent({ type: "image", image });
    return image;
  }));
  return { images, timings: stages.timings() };
}

/** Where the reference of each picture looks: where words say, or about where the photo does. */
function headTurns(
  { prompt, poseVariation = 0 }: GenerateInput,
  seeds: readonly number[],
  words: Manifest["view_words"],
): HeadTurn[] {
  const view = toldView(prompt, words);
  const varied = view === undefined && poseVariation > 0;
  if (varied) return seeds.map((seed) => ({ by: turnOfSeed(seed, poseVariation) }));
  const turn = view === "left" || view === "right" ? { to: SIDE_VIEW[view] } : { by: 0 };
  return seeds.map(() => turn);
}

/** The ids of every row that guidance needs. */
function encodeRowPrompts(
  { tokenizer, manifest }: Pipeline,
  { prompt, negativePrompt, classNoun }: GenerateInput,
  guidance: GuidanceSchedule,
): RowPrompt[] {
  if (!manifest.class_nouns.includes(classNoun)) {
    throw new PipelineError(
      "class_noun_unknown",
      `There is no such class noun: choose one of ${manifest.class_nouns.join(", ")}`,
    );
  }
  const words = { classNoun, identifier: manifest.identifier };
  const encode: Record<GuidanceRowKind, () => EncodedPrompt> = {
    unconditional: () => encodeWords(tokenizer, negativePrompt, "negative prompt"),
    words: () => encodeWords(tokenizer, prompt),
    conditional: () => encodePrompt(tokenizer, prompt, words),
  };
  return rowKinds(guidance).map((kind) => ({ kind, prompt: encode[kind]() }));
}

/** Steps that a generation's pictures have taken in the mean: a full batch may leave some behind the others. */
function meanStep(drafts: readonly Draft[]): number {
  const taken = drafts.reduce((sum, { scheduler }) => sum + scheduler.stepIndex, 0);
  return Math.floor(taken / drafts.length);
}

/** A finished picture and how much it looks like its person. */
interface Portrait {
  readonly picture: Photo;
  readonly identitySimilarity: number | null;
}

async function decodePortrait(
  { models, manifest }: Pipeline,
  { sample, latentDims }: Draft,
  person: ReferencePerson,
): Promise<Portrait> {
  const picture = toPicture(await models.vaeDecoder({ data: sample, dims: [1, ...latentDims] }));
  const reference = person.face_embedding.data;
  return {
    picture,
    identitySimilarity: await identitySimilarity(picture, reference, models, manifest.faces),
  };
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
