import { concatRows, type FloatTensor, repeatRows, rowOf } from "../models/tensor.ts";
import type { Unet, UnetInput } from "../models/unet.ts";
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
  /** z_t, before the scheduler scales it */
  sample: Float32Array;
}

/** What a draft begins with. */
export interface DraftSettings extends Omit<Draft, "scheduler" | "sample"> {
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
 * const draft = startDraft(42, { createScheduler, conditioning, guidance, identityStrength: 1, latentDims });
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
 * Advances drafts together: one run of the UNet a step, whatever their steps, schedulers and guidance.
 *
 * A draft's rows lie side by side in the batch. The rows that do not change from step to step are kept for as long as
 * the same drafts come together.
 *
 * @example
 * ```ts
 * const denoiser = new Denoiser(models.unet);
 * while (!isDenoised(draft)) await denoiser.step([draft]);
 * ```
 */
export class Denoiser {
  readonly #unet: Unet;
  #drafts: readonly Draft[] = [];
  #fixed: FixedRows | undefined;

  /** @param unet the bundle's */
  constructor(unet: Unet) {
    this.#unet = unet;
  }

  /**
   * Takes each draft's next step.
   *
   * @param drafts at least one, all of one shape, none finished
   * @returns what each step saw, in the drafts' order
   */
  async step(drafts: readonly Draft[]): Promise<DraftStep[]> {
    const steps = drafts.map(({ scheduler, sample }) => ({
      timestep: scheduler.timesteps[scheduler.stepIndex]!,
      input: scheduler.scaleModelInput(sample, scheduler.stepIndex),
    }));
    const prediction = await this.#unet({
      ...this.#fixedRows(drafts),
      sample: concatRows(
        drafts.map(({ conditioning, latentDims }, index) =>
          repeatRows({ data: steps[index]!.input, dims: [1, ...latentDims] }, rowsOf(conditioning))
        ),
      ),
      timestep: perRow(drafts, (_, index) => steps[index]!.timestep),
    });
    let row = 0;
    return drafts.map((draft, index) => {
      const rows = Array.from({ length: rowsOf(draft.conditioning) }, () => rowOf(prediction, row++).data);
      const guided = guide(rows, draft.guidance);
      draft.sample = draft.scheduler.step(guided, draft.sample);
      return { ...steps[index]!, prediction: guided };
    });
  }

  #fixedRows(drafts: readonly Draft[]): FixedRows {
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

function perRow(drafts: readonly Draft[], value: (draft: Draft, index: number) => number): FloatTensor {
  const values = drafts.flatMap((draft, index) =>
    new Array<number>(rowsOf(draft.conditioning)).fill(value(draft, index))
  );
  return { data: Float32Array.from(values), dims: [values.length] };
}
