/** DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095): multistep, second order, on the clean-image prediction. */

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
import {
  checkStepCount,
  leadingTimesteps,
  linspaceTimesteps,
  roundHalfEven,
  trailingTimesteps,
} from "./timesteps.ts";

/** Below this many steps diffusers ends with a first-order step even when some noise is to remain. */
const FEW_STEPS = 15;

/**
 * A DPM-Solver++ 2M sampler that walks as diffusers' `DPMSolverMultistepScheduler` with `solver_order` 2,
 * `algorithm_type` `dpmsolver++` and `solver_type` `midpoint` does.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps 1 to `num_train_timesteps` (one less with leading spacing)
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function createDpmpp2m(config: SchedulerConfig, numInferenceSteps: number): Scheduler {
  const { timesteps, sigmas } = planSigmas(config, numInferenceSteps);
  const count = timesteps.length;
  const predictsVelocity = config.prediction_type === "v_prediction";
  const endsFirstOrder = config.euler_at_final || config.final_sigmas_type === "zero" ||
    (config.lower_order_final && count < FEW_STEPS);
  const counter = new StepCounter(count);
  let previousClean: Float32Array | undefined;

  return {
    timesteps,
    initNoiseSigma: 1,
    get stepIndex() {
      return counter.taken;
    },
    scaleModelInput(sample, i) {
      counter.check(i);
      return Float32Array.from(sample);
    },
    step(prediction, sample) {
      const index = counter.next(prediction, sample);
      const from = noiseLevel(sigmas[index]!);
      const to = noiseLevel(sigmas[index + 1]!);
      const clean = new Float32Array(sample.length);
      for (let i = 0; i < clean.length; i++) {
        clean[i] = predictsVelocity
          ? from.alpha * sample[i]! - from.sigma * prediction[i]!
          : (sample[i]! - from.sigma * prediction[i]!) / from.alpha;
      }

      // Equation 8 for the first order; the midpoint rule of algorithm 2 adds half a step along the last change.
      const keep = to.sigma / from.sigma;
      const gain = -to.alpha * Math.expm1(from.lambda - to.lambda);
      const earlier = index === count - 1 && endsFirstOrder ? undefined : previousClean;
      const slope = earlier === undefined
        ? 0
        : 0.5 * gain * (to.lambda - from.lambda) / (from.lambda - noiseLevel(sigmas[index - 1]!).lambda);
      const result = new Float32Array(sample.length);
      for (let i = 0; i < result.length; i++) {
        const change = earlier === undefined ? 0 : slope * (clean[i]! - earlier[i]!);
        result[i] = keep * sample[i]! + gain * clean[i]! + change;
      }
      previousClean = clean;
      return result;
    },
  };
}

/** alpha, sigma and lambda = ln(alpha / sigma) of a variance-preserving process, from sigma / alpha. */
function noiseLevel(ratio: number): { alpha: number; sigma: number; lambda: number } {
  const alpha = 1 / Math.sqrt(ratio * ratio + 1);
  return { alpha, sigma: ratio * alpha, lambda: -Math.log(ratio) };
}

function planSigmas(
  config: SchedulerConfig,
  count: number,
): { timesteps: readonly number[]; sigmas: Float32Array } {
  const alphasCumprod = computePositiveAlphasCumprod(config);
  const trainingSigmas = computeTrainingSigmas(alphasCumprod);
  const last = trainingSigmas.length - 1;
  const final = finalSigma(config, trainingSigmas);
  if (config.use_karras_sigmas) {
    checkStepCount(count, config.num_train_timesteps);
    const smallest = config.sigma_min ?? trainingSigmas[0]!;
    const largest = config.sigma_max ?? trainingSigmas[last]!;
    const sigmas = karrasSigmas(smallest, largest, count);
    // diffusers keeps whole timesteps: rounded ones, or cut ones for the cosine schedule.
    const whole = config.beta_schedule === "squaredcos_cap_v2" ? Math.trunc : roundHalfEven;
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
