/** Euler's method on the probability flow ODE (Karras et al. 2022, algorithm 2 without churn). */

import { computePositiveAlphasCumprod } from "./noise_schedule.ts";
import { type Scheduler, StepCounter } from "./scheduler.ts";
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

/**
 * An Euler sampler that walks as diffusers' `EulerDiscreteScheduler` does. Its samples are scaled so that their noise
 * has standard deviation sigma (up to 4096 with zero terminal SNR), and its timesteps may lie between whole ones.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps 1 to `num_train_timesteps`
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function createEuler(config: SchedulerConfig, numInferenceSteps: number): Scheduler {
  checkStepCount(numInferenceSteps, config.num_train_timesteps);
  const { timesteps, sigmas } = planSigmas(config, numInferenceSteps);
  const largest = sigmas.reduce((a, b) => Math.max(a, b));
  const predictsVelocity = config.prediction_type === "v_prediction";
  const counter = new StepCounter(timesteps.length);

  return {
    timesteps,
    initNoiseSigma: config.timestep_spacing === "leading" ? inputScale(largest) : largest,
    get stepIndex() {
      return counter.taken;
    },
    scaleModelInput(sample, i) {
      counter.check(i);
      const scale = inputScale(sigmas[i]!);
      return Float32Array.from(sample, (x) => x / scale);
    },
    step(prediction, sample) {
      const index = counter.next(prediction, sample);
      const sigma = sigmas[index]!;
      const difference = round(sigmas[index + 1]! - sigma);
      const skip = round(round(sigma * sigma) + 1);
      const out = round(-sigma / round(Math.sqrt(skip)));
      const result = new Float32Array(sample.length);
      // Every operation is rounded to float32 in diffusers' order: where sigma is 4096, exact arithmetic would leave
      // diffusers' path by several 1e-4, and an epsilon-predicting model never loses that again.
      for (let i = 0; i < result.length; i++) {
        const x = sample[i]!;
        const output = prediction[i]!;
        const clean = predictsVelocity
          ? round(round(output * out) + round(x / skip))
          : round(x - round(sigma * output));
        const derivative = round(round(x - clean) / sigma);
        result[i] = x + round(derivative * difference);
      }
      return result;
    },
  };
}

/** sqrt(sigma^2 + 1): the standard deviation of a sample whose clean part has standard deviation 1. */
function inputScale(sigma: number): number {
  return round(Math.sqrt(round(round(sigma * sigma) + 1)));
}

function planSigmas(
  config: SchedulerConfig,
  count: number,
): { timesteps: readonly number[]; sigmas: Float32Array } {
  const trainingSigmas = computeTrainingSigmas(computePositiveAlphasCumprod(config));
  let timesteps = planTimesteps(config, count).map(round);
  let sigmas = interpolateSigmas(trainingSigmas, timesteps);
  if (config.use_karras_sigmas) {
    const smallest = config.sigma_min ?? sigmas[sigmas.length - 1]!;
    const largest = config.sigma_max ?? sigmas[0]!;
    sigmas = karrasSigmas(smallest, largest, sigmas.length);
    timesteps = sigmas.map((sigma) => round(sigmaToTimestep(sigma, trainingSigmas)));
  }
  return { timesteps, sigmas: Float32Array.from([...sigmas, finalSigma(config, trainingSigmas)]) };
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
