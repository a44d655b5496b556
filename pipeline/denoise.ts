import { concatRows, type FloatTensor, RowBuffer, rowOf, sliceRows } from "../models/tensor.ts";
import type { UnetInput, UnetModels } from "../models/unet.ts";
import { type Conditioning, ConditioningStack } from "./conditioning.ts";
import {
  type Guidance,
  guidanceAt,
  type GuidanceRowKind,
  guidanceRows,
  type GuidanceSchedule,
  guide,
  rescaleGuidance,
} from "./guidance.ts";
import { TorchGenerator } from "./noise.ts";
import type { NoiseLevels } from "./schedulers/noise_levels.ts";
import type { Scheduler } from "./schedulers/scheduler.ts";

/** One picture on its way from noise to a clean latent: nothing in it is shared with any other picture's steps. */
export interface Draft {
  readonly scheduler: Scheduler;
  readonly noiseLevels: NoiseLevels;
  /** a row for each of `rowKinds` of the guidance */
  readonly conditioning: Conditioning;
  readonly guidance: GuidanceSchedule;
  /** beta of equation 7 */
  readonly identityStrength: number;
  /** [c, h, w] of the latent */
  readonly latentDims: readonly number[];
  /** all of the UNet runs at every `cacheInterval`-th step, and a part of it at the others; 1 for all of it at all */
  readonly cacheInterval: number;
  /** z_t, before the scheduler scales it */
  sample: Float32Array;
  /** what the part goes on from, and whose rows these are */
  deep?: DeepFeatures;
}

/** What a draft begins with. */
export interface DraftSettings extends Omit<Draft, "scheduler" | "sample" | "deep"> {
  /** makes a fresh sampler that draws from the picture's generator */
  readonly createScheduler: (generator: TorchGenerator) => Scheduler;
}

/** What the last step that ran all of the UNet left for those that run a part of it. */
export interface DeepFeatures {
  readonly kinds: readonly GuidanceRowKind[];
  /** [rows, c', h, w] */
  readonly features: FloatTensor;
}

/** What one step of a draft saw. */
export interface DraftStep {
  /** t, as the UNet was told */
  readonly timestep: number;
  /** z_t, as the UNet saw it */
  readonly input: Float32Array;
  /** the UNet's output, after guidance */
  readonly prediction: Float32Array;
}

/**
 * Begins a picture with the noise of its seed, as `torch.randn` draws it.
 *
 * @param seed of a torch CPU generator of the picture's own
 * @param settings the rest of the draft
 *
 * @example
 * ```ts
 * const draft = startDraft(42, {
 *   createScheduler, noiseLevels, conditioning, guidance, identityStrength: 1, latentDims, cacheInterval: 1,
 * });
 * ```
 */
export function startDraft(seed: number, { createScheduler, ...settings }: DraftSettings): Draft {
  const generator = new TorchGenerator(seed);
  const scheduler = createScheduler(generator);
  const noise = generator.randn(settings.latentDims.reduce((product, side) => product * side, 1));
  for (let i = 0; i < noise.length; i++) noise[i]! *= scheduler.initNoiseSigma;
  return { ...settings, scheduler, sample: noise };
}

/** Whether every step is taken. */
export function isDenoised({ scheduler }: Draft): boolean {
  return scheduler.stepIndex === scheduler.timesteps.length;
}

/**
 * What two drafts must have in common to share a run of the UNet.
 *
 * @returns the sides of all its inputs but the first, as text; the number of a person's tokens, which can be filled up,
 *   is none of them
 *
 * @example
 * ```ts
 * shapeOf(one) === shapeOf(other); // they may be batched
 * ```
 */
export function shapeOf({ latentDims, conditioning }: Draft): string {
  const { encoder_hidden_states: words, identity_tokens: person } = conditioning;
  return [latentDims, words.dims.slice(1), person.dims.slice(2)].join(";");
}

/**
 * Advances drafts together: one run of the UNet a step, whatever their steps, schedulers and guidance, and one of its part
 * for those that go on from an earlier step.
 *
 * A draft's rows lie side by side in the batch, those alone that count in its step. What of them does not change stays
 * where it is from step to step, until {@linkcode Denoiser.forget}.
 *
 * @example
 * ```ts
 * const denoiser = new Denoiser(models);
 * while (!isDenoised(draft)) await denoiser.step([draft]);
 * denoiser.forget();
 * ```
 */
export class Denoiser {
  readonly #models: UnetModels;
  #batch = new Batch();

  /** @param models the bundle's */
  constructor(models: UnetModels) {
    this.#models = models;
  }

  /**
   * Drops what is kept of the drafts of the last step, and with it the last that it has of their people. To be called
   * between steps, when there is none to come.
   */
  forget(): void {
    this.#batch = new Batch();
  }

  /**
   * Takes each draft's next step; one call at a time.
   *
   * @param drafts at least one, all of one shape, none finished
   * @returns what each step saw, in the drafts' order
   * @throws {RangeError} one goes on from earlier steps, which the bundle has no graph for
   */
  async step(drafts: readonly Draft[]): Promise<DraftStep[]> {
    const turns = drafts.map(turnOf);
    const whole = turns.filter(needsAll);
    const part = turns.filter((turn) => !needsAll(turn));
    const predictions = new Map([...await this.#runWhole(whole), ...await this.#runPart(part)]);
    return turns.map((turn) => {
      const { draft, timestep, input, guidance } = turn;
      const rows = predictions.get(turn)!;
      const level = { noisy: input, ...draft.noiseLevels.cleanPartsAt(timestep) };
      const guided = rescaleGuidance(guide(rows, guidance), rows.at(-1)!, level, guidance.rescale);
      draft.sample = draft.scheduler.step(guided, draft.sample);
      return { timestep, input, prediction: guided };
    });
  }

  async #runWhole(turns: readonly Turn[]): Promise<Iterable<[Turn, Float32Array[]]>> {
    if (turns.length === 0) return [];
    const input = this.#batch.inputOf(turns);
    if (turns.every(({ draft }) => draft.cacheInterval === 1)) {
      return splitRows(turns, await this.#models.unet(input));
    }
    const { full } = await this.#cachedUnet();
    const { prediction, deep_features } = await full(input);
    let row = 0;
    for (const { draft, kinds } of turns) {
      const end = row + kinds.length;
      if (draft.cacheInterval > 1) draft.deep = { kinds, features: sliceRows(deep_features, row, end) };
      row = end;
    }
    return splitRows(turns, prediction);
  }

  async #runPart(turns: readonly Turn[]): Promise<Iterable<[Turn, Float32Array[]]>> {
    if (turns.length === 0) return [];
    const { shallow } = await this.#cachedUnet();
    return splitRows(
      turns,
      await shallow({
        ...this.#batch.inputOf(turns),
        deep_features: concatRows(turns.map(({ draft }) => draft.deep!.features)),
      }),
    );
  }

  #cachedUnet() {
    const { cachedUnet } = this.#models;
    if (cachedUnet === undefined) {
      throw new RangeError(
        "the bundle has no graph for cached steps: ask with a cacheInterval of 1, or export it again",
      );
    }
    return cachedUnet();
  }
}

/** A draft's next step. */
interface Turn extends Omit<DraftStep, "prediction"> {
  readonly draft: Draft;
  readonly guidance: Guidance;
  /** the rows that count in it */
  readonly kinds: readonly GuidanceRowKind[];
}

function turnOf(draft: Draft): Turn {
  const { scheduler, sample } = draft;
  const timestep = scheduler.timesteps[scheduler.stepIndex]!;
  const guidance = guidanceAt(draft.guidance, timestep);
  return {
    draft,
    timestep,
    input: scheduler.scaleModelInput(sample, scheduler.stepIndex),
    guidance,
    kinds: guidanceRows(guidance).map(({ kind }) => kind),
  };
}

/**
 * Whether a step runs all of the UNet: when it is time to, when a restart has added noise, or when other rows count than
 * those that were kept.
 */
function needsAll({ draft: { scheduler, cacheInterval, deep }, timestep, kinds }: Turn): boolean {
  const { stepIndex, timesteps } = scheduler;
  const restarts = stepIndex > 0 && timestep > timesteps[stepIndex - 1]!;
  return restarts || stepIndex % cacheInterval === 0 || deep?.kinds.join() !== kinds.join();
}

/** Each draft's rows of a prediction. */
function splitRows(turns: readonly Turn[], prediction: FloatTensor): [Turn, Float32Array[]][] {
  let row = 0;
  return turns.map((turn) => [turn, turn.kinds.map(() => rowOf(prediction, row++).data)]);
}

/** Lays out what the UNet is told, run after run in the same memory. */
class Batch {
  readonly #conditioning = new ConditioningStack();
  readonly #samples = new RowBuffer();

  /** The UNet's inputs; good until the next ones are asked for. */
  inputOf(turns: readonly Turn[]): UnetInput {
    const perRow = <Value>(value: (turn: Turn) => Value) =>
      turns.flatMap((turn) => turn.kinds.map(() => value(turn)));
    const rows = turns.flatMap(({ draft: { conditioning }, kinds }) =>
      kinds.map((kind) => ({ conditioning, kind }))
    );
    this.#samples.reserve(turns[0]!.draft.latentDims, rows.length);
    perRow(({ input }) => input).forEach((input, index) => this.#samples.write(index, input));
    return {
      ...this.#conditioning.stack(rows),
      sample: this.#samples.first(rows.length),
      timestep: column(perRow(({ timestep }) => timestep)),
      identity_strength: column(perRow(({ draft }) => draft.identityStrength)),
    };
  }
}

/** One number a row. */
function column(values: readonly number[]): FloatTensor {
  return { data: Float32Array.from(values), dims: [values.length] };
}
