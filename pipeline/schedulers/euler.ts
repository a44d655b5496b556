/** Euler's method on the probability flow ODE (Karras et al. 2022, algorithm 2 without churn). */

import { type Scheduler, StepCounter } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { eulerStep, planSigmas, scaleInput } from "./sigma_plan.ts";

/**
 * An Euler sampler that walks as diffusers' `EulerDiscreteScheduler` does. Its samples are scaled so that their noise
 * has standard deviation sigma (up to 4096 with zero terminal SNR), and its timesteps may lie between whole ones.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps 1 to `num_train_timesteps`
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function createEuler(config: SchedulerConfig, numInferenceSteps: number): Scheduler {
  const { timesteps, sigmas, initNoiseSigma } = planSigmas(config, numInferenceSteps);
  const predictsVelocity = config.prediction_type === "v_prediction";
  const counter = new StepCounter(timesteps.length);

  return {
    timesteps,
    initNoiseSigma,
    get stepIndex() {
      return counter.taken;
    },
    scaleModelInput(sample, i) {
      counter.check(i);
      return scaleInput(sample, sigmas[i]!);
    },
    step(prediction, sample) {
      const index = counter.next(prediction, sample);
      const levels = { from: sigmas[index]!, to: sigmas[index + 1]! };
      return eulerStep(sample, prediction, levels, predictsVelocity);
    },
  };
}
