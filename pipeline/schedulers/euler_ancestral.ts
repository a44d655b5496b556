/** Ancestral sampling with Euler steps (Karras et al. 2022; k-diffusion's `sample_euler_ancestral`, eta = 1). */

import type { TorchGenerator } from "../noise.ts";
import { type Scheduler, StepCounter } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { eulerStep, planSigmas, scaleInput } from "./sigma_plan.ts";

const round = Math.fround;

/**
 * An ancestral Euler sampler that walks as diffusers' `EulerAncestralDiscreteScheduler` does: each step goes below the
 * next noise level and adds fresh noise up to it. Samples are scaled as Euler's; like its peer it knows neither Karras
 * levels nor a final noise level above 0.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps 1 to `num_train_timesteps`
 * @param generator what the noise of each step is drawn from
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function createEulerAncestral(
  config: SchedulerConfig,
  numInferenceSteps: number,
  generator: TorchGenerator,
): Scheduler {
  const plain: SchedulerConfig = { ...config, use_karras_sigmas: false, final_sigmas_type: "zero" };
  const { timesteps, sigmas, initNoiseSigma } = planSigmas(plain, numInferenceSteps);
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
      return ancestralStep(sample, prediction, levels, predictsVelocity, generator);
    },
  };
}

/**
 * An Euler step below a noise level, and fresh noise up to it.
 *
 * @param sample x, not scaled
 * @param prediction what the model says of it
 * @param levels the noise level it has, and the one to go to
 * @param predictsVelocity whether the prediction is a velocity, or else noise
 * @param generator what the noise is drawn from, at a level of 0 too
 * @returns a new array
 */
export function ancestralStep(
  sample: Float32Array,
  prediction: Float32Array,
  { from, to }: { readonly from: number; readonly to: number },
  predictsVelocity: boolean,
  generator: TorchGenerator,
): Float32Array<ArrayBuffer> {
  const { down, up } = splitNoise(from, to);
  const result = eulerStep(sample, prediction, { from, to: down }, predictsVelocity);
  addNoise(result, up, generator);
  return result;
}

/** Adds noise of a standard deviation, in place; where that is 0, the generator goes on all the same, as diffusers' does. */
export function addNoise(sample: Float32Array, deviation: number, generator: TorchGenerator): void {
  if (deviation === 0) return generator.skip(sample.length);
  const noise = generator.randn(sample.length);
  for (let i = 0; i < sample.length; i++) sample[i]! += round(noise[i]! * deviation);
}

/** The noise level to step down to, and the standard deviation of the noise that leads up to `to` again. */
function splitNoise(from: number, to: number): { down: number; up: number } {
  const [fromSquare, toSquare] = [round(from * from), round(to * to)];
  const up = round(Math.sqrt(round(round(toSquare * round(fromSquare - toSquare)) / fromSquare)));
  return { down: round(Math.sqrt(round(toSquare - round(up * up)))), up };
}
