/** Euler's method on the probability flow ODE (Karras et al. 2022, algorithm 2 without churn). */

import { type Scheduler, StepCounter } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { inputScale, planSigmas } from "./sigma_plan.ts";

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
