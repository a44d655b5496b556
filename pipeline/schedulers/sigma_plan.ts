/** Noise levels and timesteps of the solvers whose samples grow with sigma: Euler's method and its ancestral form. */

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

const round = Math.fround;

/** Which timesteps to visit and how noisy the sample is at each. */
export interface SigmaPlan {
  /** [steps], falling; they may lie between whole ones */
  readonly timesteps: readonly number[];
  /** standard deviation of the noise at each timestep and after the last: [steps + 1] */
  readonly sigmas: Float32Array;
  /** what to multiply `randn` by */
  readonly initNoiseSigma: number;
}

/** sqrt(sigma^2 + 1), in float32: the standard deviation of a sample whose clean part has standard deviation 1. */
function inputScale(sigma: number): number {
  return round(Math.sqrt(round(round(sigma * sigma) + 1)));
}

/** A sample as the model takes it: with standard deviation 1 where its clean part has. */
export function scaleInput(sample: Float32Array, sigma: number): Float32Array<ArrayBuffer> {
  const scale = inputScale(sigma);
  const scaled = new Float32Array(sample.length);
  for (let i = 0; i < scaled.length; i++) scaled[i] = sample[i]! / scale;
  return scaled;
}

/**
 * An Euler step on the probability flow ODE: the sample plus its slope, (x - x0) / sigma, times how far it goes.
 *
 * Every operation is rounded to float32 in diffusers' order: where sigma is 4096, exact arithmetic would leave
 * diffusers' path by several 1e-4, and an epsilon-predicting model never loses that again.
 *
 * @param sample x, not scaled
 * @param prediction what the model says of it
 * @param sigmas the noise level it has, and the one to go to
 * @param predictsVelocity whether the prediction is a velocity, or else noise
 * @returns a new array
 */
export function eulerStep(
  sample: Float32Array,
  prediction: Float32Array,
  { from, to }: { readonly from: number; readonly to: number },
  predictsVelocity: boolean,
): Float32Array<ArrayBuffer> {
  const skip = round(round(from * from) + 1);
  const out = round(-from / round(Math.sqrt(skip)));
  const distance = round(to - from);
  const result = new Float32Array(sample.length);
  for (let i = 0; i < result.length; i++) {
    const x = sample[i]!;
    const output = prediction[i]!;
    const clean = predictsVelocity
      ? round(round(output * out) + round(x / skip))
      : round(x - round(from * output));
    result[i] = x + round(round(round(x - clean) / from) * distance);
  }
  return result;
}

/**
 * The noise levels of given timesteps, in float32, linear between whole ones.
 *
 * @param config the model's scheduler configuration
 * @param timesteps 0 to one less than `num_train_timesteps`
 */
export function sigmasAt(config: SchedulerConfig, timesteps: readonly number[]): Float32Array<ArrayBuffer> {
  const trainingSigmas = computeTrainingSigmas(computePositiveAlphasCumprod(config));
  return Float32Array.from(interpolateSigmas(trainingSigmas, timesteps));
}

/**
 * Plans a generation as diffusers' `EulerDiscreteScheduler.set_timesteps` does.
 *
 * @param config the model's scheduler configuration
 * @param count 1 to `num_train_timesteps`
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function planSigmas(config: SchedulerConfig, count: number): SigmaPlan {
  checkStepCount(count, config.num_train_timesteps);
  const trainingSigmas = computeTrainingSigmas(computePositiveAlphasCumprod(config));
  let timesteps = planTimesteps(config, count).map(round);
  let sigmas = interpolateSigmas(trainingSigmas, timesteps);
  if (config.use_karras_sigmas) {
    const smallest = config.sigma_min ?? sigmas[sigmas.length - 1]!;
    const largest = config.sigma_max ?? sigmas[0]!;
    sigmas = karrasSigmas(smallest, largest, sigmas.length);
    timesteps = sigmas.map((sigma) => round(sigmaToTimestep(sigma, trainingSigmas)));
  }
  const largest = round(sigmas.reduce((a, b) => Math.max(a, b)));
  return {
    timesteps,
    sigmas: Float32Array.from([...sigmas, finalSigma(config, trainingSigmas)]),
    initNoiseSigma: config.timestep_spacing === "leading" ? inputScale(largest) : largest,
  };
}

function planTimesteps(config: SchedulerConfig, count: number): number[] {
  const trainTimesteps = config.num_train_timesteps;
  switch (config.timestep_spacing ?? "linspace") {
    case "leading":
      return leadingTimesteps(trainTimesteps, count, config.steps_offset);
    case "linspace":
      return linspaceTimesteps(trainTimesteps - 1, count);
    case "trailing":
      return trailingTimesteps(trainTimesteps, trainTimesteps / count);
  }
}
