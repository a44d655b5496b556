/** From a sampler's name to a sampler. */

import type { TorchGenerator } from "../noise.ts";
import { PipelineError, type SchedulerName } from "../protocol.ts";
import { createDdim } from "./ddim.ts";
import { createDpmpp2m, createDpmpp2mSde } from "./dpmpp_2m.ts";
import { createEuler } from "./euler.ts";
import { createEulerAncestral } from "./euler_ancestral.ts";
import { createEulerRestart } from "./euler_restart.ts";
import type { Scheduler } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { createUniPc } from "./unipc.ts";

/** Makes one kind of sampler. */
type SchedulerFactory = (config: SchedulerConfig, steps: number, generator: TorchGenerator) => Scheduler;

const SCHEDULERS: Readonly<Record<SchedulerName, SchedulerFactory>> = {
  ddim: createDdim,
  euler: createEuler,
  euler_ancestral: createEulerAncestral,
  euler_restart: createEulerRestart,
  dpmpp_2m: createDpmpp2m,
  dpmpp_2m_sde: createDpmpp2mSde,
  unipc: createUniPc,
};

/** The samplers a caller may ask for. */
export const schedulerNames = Object.keys(SCHEDULERS) as readonly SchedulerName[];

/**
 * Makes the sampler of one generation.
 *
 * @param name the caller's choice
 * @param config the model's `scheduler_config.json`, see `parseSchedulerConfig`
 * @param numInferenceSteps how many steps to take
 * @param generator what drew the picture's first noise: stochastic samplers (`euler_ancestral`, `euler_restart`,
 *   `dpmpp_2m_sde`) go on drawing from it at every step, as diffusers' pipelines do; the others leave it alone
 * @returns a fresh sampler at step 0
 * @throws {PipelineError} with code `scheduler_unknown` when there is no such sampler
 * @throws {RangeError} when the steps do not fit the model's training timesteps
 *
 * @example
 * ```ts
 * const generator = new TorchGenerator(seed);
 * const scheduler = createScheduler("dpmpp_2m", config, 20, generator);
 * let sample = generator.randn(size).map((x) => x * scheduler.initNoiseSigma);
 * for (const [i, timestep] of scheduler.timesteps.entries()) {
 *   sample = scheduler.step(await predict(scheduler.scaleModelInput(sample, i), timestep), sample);
 * }
 * ```
 */
export function createScheduler(
  name: SchedulerName,
  config: SchedulerConfig,
  numInferenceSteps: number,
  generator: TorchGenerator,
): Scheduler {
  if (!Object.hasOwn(SCHEDULERS, name)) {
    throw new PipelineError(
      "scheduler_unknown",
      `There is no scheduler of this name; choose ${schedulerNames.join(", ")}.`,
    );
  }
  return SCHEDULERS[name](config, numInferenceSteps, generator);
}
