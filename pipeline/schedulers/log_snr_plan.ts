/** Noise levels and timesteps of the solvers that work on the log-SNR lambda: DPM-Solver++ and UniPC. */

import { computePositiveAlphasCumprod } from "./noise_schedule.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import {
  computeTrainingSigmas,
  finalSigma,
  interpolateSigmas,
  karrasSigmas,
  sigmaToTimestep,
} from "./sigmas.ts";
import { checkStepCount, leadingTimesteps, linspaceTimesteps, trailingTimesteps } from "./timesteps.ts";
import { roundHalfEven } from "../round_half_even.ts";

/** Where a variance-preserving process stands. */
export interface NoiseLevel {
  readonly alpha: number;
  readonly sigma: number;
  /** ln(alpha / sigma); infinite where no noise is left */
  readonly lambda: number;
}

/** Which timesteps to visit and how noisy the sample is at each. */
export interface NoisePlan {
  /** [steps], whole, falling */
  readonly timesteps: readonly number[];
  /** sigma / alpha at each timestep and after the last: [steps + 1] */
  readonly sigmas: Float32Array;
}

/** The noise level of a ratio sigma / alpha, 0 or more. */
export function noiseLevel(ratio: number): NoiseLevel {
  const alpha = 1 / Math.sqrt(ratio * ratio + 1);
  return { alpha, sigma: ratio * alpha, lambda: -Math.log(ratio) };
}

/**
 * The clean sample that a model's prediction means at a noise level: x0 of `x = alpha x0 + sigma noise`.
 *
 * @param predictsVelocity `v = alpha noise - sigma x0` (Salimans and Ho 2022); otherwise the noise itself
 * @returns as many values as the sample has
 */
export function predictClean(
  sample: Float32Array,
  prediction: Float32Array,
  { alpha, sigma }: Pick<NoiseLevel, "alpha" | "sigma">,
  predictsVelocity: boolean,
): Float32Array {
  const keep = predictsVelocity ? alpha : 1 / alpha;
  const take = predictsVelocity ? sigma : sigma / alpha;
  const clean = new Float32Array(sample.length);
  for (let i = 0; i < clean.length; i++) clean[i] = keep * sample[i]! - take * prediction[i]!;
  return clean;
}

/**
 * Plans a generation as diffusers' `DPMSolverMultistepScheduler.set_timesteps` does.
 *
 * @param config the model's scheduler configuration
 * @param count 1 to `num_train_timesteps` (one less with leading spacing)
 * @param whole makes a whole timestep of one between two, for Karras' levels
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function planLogSnr(
  config: SchedulerConfig,
  count: number,
  // diffusers keeps whole timesteps: rounded ones, or cut ones for the cosine schedule.
  whole = config.beta_schedule === "squaredcos_cap_v2" ? Math.trunc : roundHalfEven,
): NoisePlan {
  const alphasCumprod = computePositiveAlphasCumprod(config);
  const trainingSigmas = computeTrainingSigmas(alphasCumprod);
  const last = trainingSigmas.length - 1;
  const final = finalSigma(config, trainingSigmas);
  if (config.use_karras_sigmas) {
    checkStepCount(count, config.num_train_timesteps);
    const smallest = config.sigma_min ?? trainingSigmas[0]!;
    const largest = config.sigma_max ?? trainingSigmas[last]!;
    const sigmas = karrasSigmas(smallest, largest, count);
    const timesteps = sigmas.map((sigma) => whole(sigmaToTimestep(sigma, trainingSigmas)));
    return { timesteps, sigmas: Float32Array.from([...sigmas, final]) };
  }
  const timesteps = planTimesteps(config, count, countAbove(trainingSigmas, config.lambda_min_clipped));
  const sigmas = interpolateSigmas(trainingSigmas, timesteps);
  return { timesteps, sigmas: Float32Array.from([...sigmas, final]) };
}

/** How many training timesteps, from 0 up, have a log-SNR lambda of at least `smallest`. */
function countAbove(trainingSigmas: Float32Array, smallest: number | null | undefined): number {
  if (smallest == null) return trainingSigmas.length;
  return trainingSigmas.filter((sigma) => -Math.log(sigma) >= smallest).length;
}

function planTimesteps(config: SchedulerConfig, count: number, end: number): readonly number[] {
  switch (config.timestep_spacing ?? "linspace") {
    // One more than asked for, of which the last, timestep 0, is left out.
    case "leading":
      checkStepCount(count, end - 1);
      return leadingTimesteps(end, count + 1, config.steps_offset).slice(0, -1);
    case "linspace":
      checkStepCount(count, end);
      return linspaceTimesteps(end - 1, count + 1).slice(0, -1).map(roundHalfEven);
    case "trailing":
      checkStepCount(count, end);
      return trailingTimesteps(end, config.num_train_timesteps / count);
  }
}
