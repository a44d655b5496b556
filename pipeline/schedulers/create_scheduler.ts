/** From a sampler's name to a sampler. */

import { PipelineError, type SchedulerName } from "../protocol.ts";
import { createDdim } from "./ddim.ts";
import { createDpmpp2m } from "./dpmpp_2m.ts";
import { createEuler } from "./euler.ts";
import type { Scheduler } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

const SCHEDULERS: Readonly<Record<SchedulerName, (config: SchedulerConfig, steps: number) => Scheduler>> = {
  ddim: createDdim,
  euler: createEuler,
  dpmpp_2m: createDpmpp2m,
};

/** The samplers a caller may ask for. */
export const schedulerNames = Object.keys(SCHEDULERS) as readonly SchedulerName[];

/**
 * Makes the sampler of one generation.
 *
 * @param name the caller's choice
 * @param config the model's `scheduler_config.json`, see `parseSchedulerConfig`
 * @param numInferenceSteps how many steps to take
 * @returns a fresh sampler at step 0
 * @throws {PipelineError} with code `scheduler_unknown` when there is no such sampler
 * @throws {RangeError} when the steps do not fit the model's training timesteps
 *
 * @example
 * ```ts
 * const scheduler = createScheduler("dpmpp_2m", config, 20);
 * let sample = new TorchGenerator(seed).randn(size).map((x) => x * scheduler.initNoiseSigma);
 * for (const [i, timestep] of scheduler.timesteps.entries()) {
 *   sample = scheduler.step(await predict(scheduler.scaleModelInput(sample, i), timestep), sample);
 * }
 * ```
 */
export function createScheduler(
  name: SchedulerName,
  config: SchedulerConfig,
  numInferenceSteps: number,
): Scheduler {
  if (!Object.hasOwn(SCHEDULERS, name)) {
    throw new PipelineError(
      "scheduler_unknown",
      `There is no scheduler of this name; choose ${schedulerNames.join(", ")}.`,
    );
  }
  return SCHEDULERS[name](config, numInferenceSteps);
}
