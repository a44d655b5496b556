/** How much noise each training timestep holds. */

import type { SchedulerConfig } from "./scheduler_config.ts";

/**
 * What solvers that divide by alpha take for the alpha of 0 at zero terminal SNR: diffusers' choice, the smallest number
 * of float16.
 */
export const ZERO_SNR_ALPHA = 2 ** -24;

/**
 * The cumulative products of (1 - beta), one a training timestep, falling from almost 1.
 *
 * Rounded to float32 wherever torch rounds: the sums and products of a thousand float32 numbers differ from exact ones
 * by more than the schedulers' tolerance, and the models were trained with these.
 *
 * @returns [num_train_timesteps], for all who ask with this configuration to read; with `rescale_betas_zero_snr` the last
 *   one is exactly 0
 */
export function computeAlphasCumprod(config: SchedulerConfig): Float32Array {
  const known = alphasCumprodOf.get(config);
  if (known !== undefined) return known;
  const betas = computeBetas(config);
  const computed = cumulativeProduct(config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(betas) : betas);
  alphasCumprodOf.set(config, computed);
  return computed;
}

/** By configuration: every picture's sampler asks again, and a bundle has but one. */
const alphasCumprodOf = new WeakMap<SchedulerConfig, Float32Array>();

/**
 * The same for solvers that divide by it: with `rescale_betas_zero_snr` the last one is
 * {@linkcode ZERO_SNR_ALPHA} instead of 0.
 *
 * @returns [num_train_timesteps], all above 0
 */
export function computePositiveAlphasCumprod(config: SchedulerConfig): Float32Array {
  const alphasCumprod = computeAlphasCumprod(config).slice();
  if (config.rescale_betas_zero_snr) alphasCumprod[alphasCumprod.length - 1] = ZERO_SNR_ALPHA;
  return alphasCumprod;
}

function computeBetas(config: SchedulerConfig): Float32Array {
  const { num_train_timesteps: count, beta_start: first, beta_end: last, trained_betas: trained } = config;
  if (trained != null) return Float32Array.from(trained);
  switch (config.beta_schedule) {
    case "linear":
      return linspace(first, last, count);
    case "scaled_linear":
      return linspace(Math.sqrt(first), Math.sqrt(last), count).map((root) => root * root);
    case "squaredcos_cap_v2":
      return Float32Array.from({ length: count }, (_, t) => cosineBeta(t / count, (t + 1) / count));
  }
}

/** Nichol & Dhariwal 2021, equation 17; capped so that no single step destroys everything. */
function cosineBeta(from: number, to: number): number {
  const alphaBar = (t: number) => Math.cos((t + 0.008) / 1.008 * Math.PI / 2) ** 2;
  return Math.min(1 - alphaBar(to) / alphaBar(from), 0.999);
}

/** `torch.linspace` in float32, which counts from both ends to the middle. */
function linspace(first: number, last: number, count: number): Float32Array {
  const start = Math.fround(first);
  const end = Math.fround(last);
  const step = Math.fround(Math.fround(end - start) / (count - 1));
  const half = Math.floor(count / 2);
  return Float32Array.from(
    { length: count },
    (_, i) => i < half ? start + Math.fround(step * i) : end - Math.fround(step * (count - 1 - i)),
  );
}

/** Products in float64, each stored in float32, as `torch.cumprod` does on the CPU. */
function cumulativeProduct(betas: Float32Array): Float32Array {
  let product = 1;
  return betas.map((beta) => product *= Math.fround(1 - beta));
}

/** Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed", algorithm 1. */
function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeProduct(betas).map(Math.sqrt);
  const first = roots[0]!;
  const last = roots[roots.length - 1]!;
  const stretch = Math.fround(first / Math.fround(first - last));
  const alphasCumprod = roots.map((root) => Math.fround(Math.fround(root - last) * stretch) ** 2);
  return alphasCumprod.map((value, t) => 1 - Math.fround(t === 0 ? value : value / alphasCumprod[t - 1]!));
}
