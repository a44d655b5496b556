/** Restart sampling (Xu et al. 2023, "Restart Sampling for Improving Generative Processes") with ancestral Euler steps. */

import type { TorchGenerator } from "../noise.ts";
import { addNoise, ancestralStep } from "./euler_ancestral.ts";
import { type Scheduler, StepCounter } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { scaleInput, sigmasAt } from "./sigma_plan.ts";
import { checkStepCount } from "./timesteps.ts";

/** Where each pass begins, in thousandths of the training timesteps; the first from noise alone. */
const PASSES = [1000, 700, 450] as const;
const ALL_PASSES = PASSES.reduce<number>((sum, length) => sum + length, 0);

/**
 * A sampler that finishes a picture, adds noise again up to timestep 700, finishes it, and does so once more from
 * timestep 450. What a pass has got wrong drowns in the next one's noise, and what it has got right shows through, so
 * a model mends its own mistakes at the noise levels where it knows best what a face looks like.
 *
 * Its passes are walked as diffusers' `EulerAncestralDiscreteScheduler` walks, with trailing spacing whatever the
 * configuration says; like it they know neither Karras levels nor a final noise level above 0.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps all steps of all passes, 1 to `num_train_timesteps`; with fewer than 3 there is one pass
 * @param generator what all noise is drawn from
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function createEulerRestart(
  config: SchedulerConfig,
  numInferenceSteps: number,
  generator: TorchGenerator,
): Scheduler {
  const passes = planPasses(config.num_train_timesteps, numInferenceSteps);
  const timesteps = passes.flat();
  // The level before each step, and the one to go to: 0 at the end of a pass.
  const sigmas = sigmasAt(config, timesteps);
  const last = new Set<number>();
  let steps = 0;
  for (const pass of passes) last.add((steps += pass.length) - 1);
  const predictsVelocity = config.prediction_type === "v_prediction";
  const counter = new StepCounter(timesteps.length);

  return {
    timesteps,
    initNoiseSigma: sigmas[0]!,
    get stepIndex() {
      return counter.taken;
    },
    scaleModelInput(sample, i) {
      counter.check(i);
      return scaleInput(sample, sigmas[i]!);
    },
    step(prediction, sample) {
      const index = counter.next(prediction, sample);
      const finished = last.has(index);
      const levels = { from: sigmas[index]!, to: finished ? 0 : sigmas[index + 1]! };
      const result = ancestralStep(sample, prediction, levels, predictsVelocity, generator);
      if (finished && index + 1 < timesteps.length) addNoise(result, sigmas[index + 1]!, generator);
      return result;
    },
  };
}

/** Timesteps of each pass: all steps shared out by how far each pass goes, at least one to each. */
function planPasses(trainTimesteps: number, count: number): number[][] {
  checkStepCount(count, trainTimesteps);
  const restarts = count < PASSES.length ? [] : PASSES.slice(1);
  const shares = restarts.map((length) => Math.max(1, roundHalfUp(count * length, ALL_PASSES)));
  const first = count - shares.reduce((sum, steps) => sum + steps, 0);
  return [first, ...shares].map((steps, pass) => {
    const begin = Math.floor(trainTimesteps * PASSES[pass]! / 1000);
    return Array.from({ length: steps }, (_, i) => roundHalfUp(begin * (steps - i), steps) - 1);
  });
}

/** The quotient of two whole numbers as a whole number, halves upwards: the same in any language. */
function roundHalfUp(dividend: number, divisor: number): number {
  return Math.floor((2 * dividend + divisor) / (2 * divisor));
}
