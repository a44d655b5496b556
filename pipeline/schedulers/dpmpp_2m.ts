/**
 * DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095): multistep, second order, on the clean-image prediction; and the
 * same for the diffusion SDE.
 */

import type { TorchGenerator } from "../noise.ts";
import { noiseLevel, planLogSnr, predictClean } from "./log_snr_plan.ts";
import { type Scheduler, StepCounter } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

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
  return createSolver(config, numInferenceSteps, undefined);
}

/**
 * A stochastic DPM-Solver++ 2M sampler that walks as diffusers' `DPMSolverMultistepScheduler` with `algorithm_type`
 * `sde-dpmsolver++` does: {@linkcode createDpmpp2m} for the diffusion SDE, which adds fresh noise at every step.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps 1 to `num_train_timesteps` (one less with leading spacing)
 * @param generator what the noise of each step is drawn from
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function createDpmpp2mSde(
  config: SchedulerConfig,
  numInferenceSteps: number,
  generator: TorchGenerator,
): Scheduler {
  return createSolver(config, numInferenceSteps, generator);
}

function createSolver(
  config: SchedulerConfig,
  numInferenceSteps: number,
  generator: TorchGenerator | undefined,
): Scheduler {
  const { timesteps, sigmas } = planLogSnr(config, numInferenceSteps);
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
      return new Float32Array(sample);
    },
    step(prediction, sample) {
      const index = counter.next(prediction, sample);
      const from = noiseLevel(sigmas[index]!);
      const to = noiseLevel(sigmas[index + 1]!);
      const clean = predictClean(sample, prediction, from, predictsVelocity);

      // Equation 8 for the first order; the midpoint rule of algorithm 2 adds half a step along the last change. The SDE
      // forgets the sample twice as fast and makes up for it with noise.
      const width = to.lambda - from.lambda;
      const keep = to.sigma / from.sigma * (generator === undefined ? 1 : Math.exp(-width));
      const forgotten = -Math.expm1(generator === undefined ? -width : -2 * width);
      const gain = to.alpha * forgotten;
      const earlier = index === count - 1 && endsFirstOrder ? undefined : previousClean;
      const slope = earlier === undefined
        ? 0
        : 0.5 * gain * width / (from.lambda - noiseLevel(sigmas[index - 1]!).lambda);
      const noise = generator?.randn(sample.length);
      const strength = to.sigma * Math.sqrt(forgotten);
      const result = new Float32Array(sample.length);
      for (let i = 0; i < result.length; i++) {
        const change = earlier === undefined ? 0 : slope * (clean[i]! - earlier[i]!);
        result[i] = keep * sample[i]! + gain * clean[i]! + change +
          (noise === undefined ? 0 : strength * noise[i]!);
      }
      previousClean = clean;
      return result;
    },
  };
}
