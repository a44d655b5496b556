import { concatRows, type FloatTensor, repeatRows, rowOf } from "../models/tensor.ts";
import type { Unet, UnetInput } from "../models/unet.ts";
import type { Conditioning } from "./conditioning.ts";
import { applyGuidance } from "./guidance.ts";
import { TorchGenerator } from "./noise.ts";
import type { Scheduler } from "./schedulers/scheduler.ts";

/** One picture on its way from noise: its sampler and its latent. */
interface Draft {
  readonly scheduler: Scheduler;
  sample: Float32Array;
}

/** How to denoise; the request's and the bundle's numbers. */
export interface DenoiseSettings {
  /** [c, h, w] of a latent */
  readonly latentDims: readonly [channels: number, height: number, width: number];
  /** a seed a picture; each draws its noise from a torch CPU generator of its own */
  readonly seeds: readonly number[];
  /** classifier-free guidance; 1 when the conditioning has one row */
  readonly guidanceScale: number;
  /** beta of equation 7 */
  readonly identityStrength: number;
  /** makes a fresh sampler that draws from the picture's generator; called once a picture, as samplers hold state */
  readonly createScheduler: (generator: TorchGenerator) => Scheduler;
  /** called before each step and after the last, and awaited: the place to cancel (throw) and to let others run */
  readonly betweenSteps: (step: number, steps: number) => Promise<void>;
}

/**
 * From noise to clean latents: all pictures advance together, one UNet run a step.
 *
 * With guidance the batch is every picture's unconditional row, then every picture's conditional row.
 *
 * @param unet the bundle's
 * @param conditioning shared by all pictures; two rows with guidance, else one
 * @param settings seeds and numbers
 * @returns a latent [1, c, h, w] a picture, in the order of the seeds
 * @throws whatever `betweenSteps` throws
 *
 * @example
 * ```ts
 * const [latent] = await denoise(models.unet, conditioning, { ...settings, seeds: [42] });
 * ```
 */
export async function denoise(
  unet: Unet,
  conditioning: Conditioning,
  settings: DenoiseSettings,
): Promise<FloatTensor[]> {
  const drafts = settings.seeds.map((seed) => startDraft(seed, settings));
  const [{ scheduler: { timesteps } }] = drafts as [Draft];
  const fixed = fixedRows(conditioning, drafts.length, settings.identityStrength);
  for (const [step, timestep] of timesteps.entries()) {
    await settings.betweenSteps(step, timesteps.length);
    const rows = fixed.identity_strength.data.length;
    const prediction = await unet({
      ...fixed,
      sample: modelInput(drafts, step, rows, settings.latentDims),
      timestep: { data: new Float32Array(rows).fill(timestep), dims: [rows] },
    });
    advance(drafts, prediction, settings.guidanceScale);
  }
  await settings.betweenSteps(timesteps.length, timesteps.length);
  return drafts.map(({ sample }) => ({ data: sample, dims: [1, ...settings.latentDims] }));
}

function startDraft(seed: number, { latentDims, createScheduler }: DenoiseSettings): Draft {
  const [channels, height, width] = latentDims;
  const generator = new TorchGenerator(seed);
  const scheduler = createScheduler(generator);
  const noise = generator.randn(channels * height * width);
  return { scheduler, sample: noise.map((value) => value * scheduler.initNoiseSigma) };
}

/** The UNet's inputs that stay the same over all steps. */
function fixedRows(
  { encoder_hidden_states: states, identity_tokens: tokens, identity_token_bias: bias }: Conditioning,
  pictures: number,
  identityStrength: number,
): Omit<UnetInput, "sample" | "timestep"> {
  const branches = states.dims[0]!;
  const spread = (tensor: FloatTensor) =>
    concatRows(Array.from({ length: branches }, (_, branch) => repeatRows(rowOf(tensor, branch), pictures)));
  const rows = branches * pictures;
  return {
    encoder_hidden_states: spread(states),
    identity_tokens: spread(tokens),
    identity_token_bias: spread(bias),
    identity_strength: { data: new Float32Array(rows).fill(identityStrength), dims: [rows] },
  };
}

/** [rows, c, h, w]: every picture's scaled sample, once a branch. */
function modelInput(
  drafts: readonly Draft[],
  step: number,
  rows: number,
  latentDims: readonly number[],
): FloatTensor {
  const samples = drafts.map(({ scheduler, sample }) => ({
    data: scheduler.scaleModelInput(sample, step),
    dims: [1, ...latentDims],
  }));
  return repeatRows(concatRows(samples), rows / drafts.length);
}

function advance(drafts: readonly Draft[], prediction: FloatTensor, guidanceScale: number): void {
  const guided = prediction.dims[0] === 2 * drafts.length;
  drafts.forEach((draft, index) => {
    const first = rowOf(prediction, index).data;
    const combined = guided
      ? applyGuidance(first, rowOf(prediction, drafts.length + index).data, guidanceScale)
      : first;
    draft.sample = draft.scheduler.step(combined, draft.sample);
  });
}
