/** What a model's prediction at a training timestep says of the clean latent. */

import { predictClean } from "./log_snr_plan.ts";
import { computePositiveAlphasCumprod } from "./noise_schedule.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

/** How z_0 comes of z_t and a prediction, but for a factor: `signal z_t - noise prediction`. */
export interface CleanParts {
  /** alpha for a velocity; 1 for noise, whose z_0 is that over alpha */
  readonly signal: number;
  /** sigma */
  readonly noise: number;
}

/** The noise levels a model was trained at, by timestep. */
export class NoiseLevels {
  readonly #alphasCumprod: Float32Array;
  readonly #predictsVelocity: boolean;

  /** @param config the bundle's noise schedule */
  constructor(config: SchedulerConfig) {
    this.#alphasCumprod = computePositiveAlphasCumprod(config);
    this.#predictsVelocity = config.prediction_type === "v_prediction";
  }

  /**
   * How z_0 comes of z_t there.
   *
   * @param timestep t, rounded to the nearest trained one
   *
   * @example
   * ```ts
   * const { signal, noise } = new NoiseLevels(config).cleanPartsAt(917);
   * ```
   */
  cleanPartsAt(timestep: number): CleanParts {
    const { alpha, sigma } = this.#at(timestep);
    return { signal: this.#predictsVelocity ? alpha : 1, noise: sigma };
  }

  /**
   * What a step takes the finished latent to be: z_0 as predicted from z_t (equations 12 and 16 of DDIM for epsilon,
   * Salimans & Ho 2022, appendix D, for v).
   *
   * @param step what it saw; its input is scaled to variance 1, as every scheduler gives it to the UNet
   * @returns the latent, of the input's length
   *
   * @example
   * ```ts
   * const latent = { data: pipeline.noiseLevels.predictClean(step), dims: [1, channels, size, size] };
   * ```
   */
  predictClean(
    { timestep, input, prediction }: {
      readonly timestep: number;
      readonly input: Float32Array;
      readonly prediction: Float32Array;
    },
  ): Float32Array {
    return predictClean(input, prediction, this.#at(timestep), this.#predictsVelocity);
  }

  #at(timestep: number): { alpha: number; sigma: number } {
    const kept = this
      .#alphasCumprod[Math.min(Math.max(Math.round(timestep), 0), this.#alphasCumprod.length - 1)]!;
    return { alpha: Math.sqrt(kept), sigma: Math.sqrt(1 - kept) };
  }
}
