import { concatRows, type FloatTensor, repeatRows, rowOf, sliceRows } from "../models/tensor.ts";
import type { UnetInput, UnetModels } from "../models/unet.ts";
import { type Conditioning, stackConditionings } from "./conditioning.ts";
import { type Guidance, guide } from "./guidance.ts";
import { TorchGenerator } from "./noise.ts";
import type { Scheduler } from "./schedulers/scheduler.ts";

/** One picture on its way from noise to a clean latent: nothing in it is shared with any other picture's steps. */
export interface Draft {
  readonly scheduler: Scheduler;
  /** a row for each of the guidance's */
  readonly conditioning: Conditioning;
  readonly guidance: Guidance;
  /** beta of equation 7 */
  readonly identityStrength: number;
  /** [c, h, w] of the latent */
  readonly latentDims: readonly number[];
  /** all of the UNet runs at every `cacheInterval`-th step, and a part of it at the others; 1 for all of it at all */
  readonly cacheInterval: number;
  /** z_t, before the scheduler scales it */
  sample: Float32Array;
  /** what the part goes on from, [rows, c', h, w] */
  deepFeatures?: FloatTensor;
}

/** What a draft begins with. */
export interface DraftSettings extends Omit<Draft, "scheduler" | "sample" | "deepFeatures"> {
  /** makes a fresh sampler that draws from the picture's generator */
  readonly createScheduler: (generator: TorchGenerator) => Scheduler;
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
 *   createScheduler, conditioning, guidance, identityStrength: 1, latentDims, cacheInterval: 1,
 * });
 * ```
 */
export function startDraft(seed: number, { createScheduler, ...settings }: DraftSettings): Draft {
  const generator = new TorchGenerator(seed);
  const scheduler = createScheduler(generator);
  const noise = generator.randn(settings.latentDims.reduce((product, side) => product * side, 1));
  return { ...settings, scheduler, sample: noise.map((value) => value * scheduler.initNoiseSigma) };
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
 * A draft's rows lie side by side in the batch. The rows that do not change from step to step are kept for as long as
 * the same drafts come together.
 *
 * @example
 * ```ts
 * const denoiser = new Denoiser(models);
 * while (!isDenoised(draft)) await denoiser.step([draft]);
 * ```
 */
export class Denoiser {
  readonly #models: UnetModels;
  readonly #whole = new FixedRowsKeeper();
  readonly #part = new FixedRowsKeeper();

  /** @param models the bundle's */
  constructor(models: UnetModels) {
    this.#models = models;
  }

  /**
   * Takes each draft's next step.
   *
   * @param drafts at least one, all of one shape, none finished
   * @returns what each step saw, in the drafts' order
   * @throws {RangeError} one goes on from earlier steps, which the bundle has no graph for
   */
  async step(drafts: readonly Draft[]): Promise<DraftStep[]> {
    const inputs = new Map(drafts.map((draft) => {
      const { scheduler, sample } = draft;
      const timestep = scheduler.timesteps[scheduler.stepIndex]!;
      return [draft, { timestep, input: scheduler.scaleModelInput(sample, scheduler.stepIndex) }];
    }));
    const whole = drafts.filter(needsAll);
    const part = drafts.filter((draft) => !needsAll(draft));
    const predictions = new Map([
      ...await this.#runWhole(whole, inputs),
      ...await this.#runPart(part, inputs),
    ]);
    return drafts.map((draft) => {
      const guided = guide(predictions.get(draft)!, draft.guidance);
      draft.sample = draft.scheduler.step(guided, draft.sample);
      return { ...inputs.get(draft)!, prediction: guided };
    });
  }

  async #runWhole(drafts: readonly Draft[], inputs: StepInputs): Promise<Iterable<[Draft, Float32Array[]]>> {
    if (drafts.length === 0) return [];
    const input = { ...this.#whole.rowsFor(drafts), ...changingRows(drafts, inputs) };
    if (drafts.every(({ cacheInterval }) => cacheInterval === 1)) {
      return splitRows(drafts, await this.#models.unet(input));
    }
    const { full } = await this.#cachedUnet();
    const { prediction, deep_features } = await full(input);
    let row = 0;
    for (const draft of drafts) {
      const rows = rowsOf(draft.conditioning);
      if (draft.cacheInterval > 1) draft.deepFeatures = sliceRows(deep_features, row, row + rows);
      row += rows;
    }
    return splitRows(drafts, prediction);
  }

  async #runPart(drafts: readonly Draft[], inputs: StepInputs): Promise<Iterable<[Draft, Float32Array[]]>> {
    if (drafts.length === 0) return [];
    const { shallow } = await this.#cachedUnet();
    return splitRows(
      drafts,
      await shallow({
        ...this.#part.rowsFor(drafts),
        ...changingRows(drafts, inputs),
        deep_features: concatRows(drafts.map(({ deepFeatures }) => deepFeatures!)),
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

/** What each draft's step is given. */
type StepInputs = ReadonlyMap<Draft, Pick<DraftStep, "timestep" | "input">>;

/** Whether a draft's next step runs all of the UNet. */
function needsAll({ scheduler, cacheInterval, deepFeatures }: Draft): boolean {
  return scheduler.stepIndex % cacheInterval === 0 || deepFeatures === undefined;
}

/** The UNet's inputs that change with every step. */
function changingRows(
  drafts: readonly Draft[],
  inputs: StepInputs,
): Pick<UnetInput, "sample" | "timestep"> {
  return {
    sample: concatRows(
      drafts.map((draft) =>
        repeatRows(
          { data: inputs.get(draft)!.input, dims: [1, ...draft.latentDims] },
          rowsOf(draft.conditioning),
        )
      ),
    ),
    timestep: perRow(drafts, (draft) => inputs.get(draft)!.timestep),
  };
}

/** Each draft's rows of a prediction. */
function splitRows(drafts: readonly Draft[], prediction: FloatTensor): [Draft, Float32Array[]][] {
  let row = 0;
  return drafts.map((draft) => [
    draft,
    Array.from({ length: rowsOf(draft.conditioning) }, () => rowOf(prediction, row++).data),
  ]);
}

/** Keeps the rows that do not change for as long as the same drafts come together. */
class FixedRowsKeeper {
  #drafts: readonly Draft[] = [];
  #fixed: FixedRows | undefined;

  rowsFor(drafts: readonly Draft[]): FixedRows {
    const same = drafts.length === this.#drafts.length &&
      drafts.every((draft, index) => draft === this.#drafts[index]);
    if (!same || this.#fixed === undefined) {
      this.#drafts = drafts;
      this.#fixed = {
        ...stackConditionings(drafts.map(({ conditioning }) => conditioning)),
        identity_strength: perRow(drafts, ({ identityStrength }) => identityStrength),
      };
    }
    return this.#fixed;
  }
}

/** The UNet's inputs that stay the same over all steps. */
type FixedRows = Omit<UnetInput, "sample" | "timestep">;

function rowsOf({ encoder_hidden_states: { dims } }: Conditioning): number {
  return dims[0]!;
}

function perRow(drafts: readonly Draft[], value: (draft: Draft) => number): FloatTensor {
  const values = drafts.flatMap((draft) => new Array<number>(rowsOf(draft.conditioning)).fill(value(draft)));
  return { data: Float32Array.from(values), dims: [values.length] };
}
