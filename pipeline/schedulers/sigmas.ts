/** Noise levels sigma = sqrt((1 - alpha_cumprod) / alpha_cumprod) of Karras et al. 2022, for Euler and DPM-Solver++. */

import { ZERO_SNR_ALPHA } from "./noise_schedule.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

/**
 * The noise level of every training timestep, rising: [num_train_timesteps] float32.
 *
 * At zero terminal SNR the exact value lies within a hair of the middle between 4096 and the float32 below it; 4096 is
 * what torch makes of it, and the seed noise is multiplied by it.
 */
export function computeTrainingSigmas(alphasCumprod: Float32Array): Float32Array {
  return alphasCumprod.map((alpha) =>
    alpha === ZERO_SNR_ALPHA ? 4096 : Math.sqrt(Math.fround(Math.fround(1 - alpha) / alpha))
  );
}

/** Noise levels at timesteps that may lie between training timesteps; linear between, constant beyond the ends. */
export function interpolateSigmas(trainingSigmas: Float32Array, timesteps: readonly number[]): number[] {
  const last = trainingSigmas.length - 1;
  return timesteps.map((timestep) => {
    const t = Math.min(Math.max(timestep, 0), last);
    const low = Math.min(Math.floor(t), last - 1);
    const start = trainingSigmas[low]!;
    return t === last ? trainingSigmas[last]! : start + (t - low) * (trainingSigmas[low + 1]! - start);
  });
}

/**
 * The noise levels of Karras et al. 2022, equation 5, with rho = 7.
 *
 * @returns [count], falling from the largest to the smallest
 */
export function karrasSigmas(smallest: number, largest: number, count: number): number[] {
  const rho = 7;
  const low = smallest ** (1 / rho);
  const high = largest ** (1 / rho);
  return Array.from(
    { length: count },
    (_, i) => (high + (count === 1 ? 0 : i / (count - 1)) * (low - high)) ** rho,
  );
}

/** The timestep, usually between two whole ones, at which training saw this noise level. */
export function sigmaToTimestep(sigma: number, trainingSigmas: Float32Array): number {
  const logSigma = Math.log(Math.max(sigma, 1e-10));
  const logAt = (t: number) => Math.fround(Math.log(trainingSigmas[t]!));
  let low = 0;
  while (low < trainingSigmas.length - 2 && logAt(low + 1) <= logSigma) low++;
  const weight = (logAt(low) - logSigma) / Math.fround(logAt(low) - logAt(low + 1));
  return low + Math.min(Math.max(weight, 0), 1);
}

/** The noise level after the last step. */
export function finalSigma(config: SchedulerConfig, trainingSigmas: Float32Array): number {
  return config.final_sigmas_type === "zero" ? 0 : trainingSigmas[0]!;
}
