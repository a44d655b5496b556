/** DDIM (Song et al. 2020), the deterministic sampler with eta = 0. */

import { computeAlphasCumprod } from "./noise_schedule.ts";
import { type Scheduler, StepCounter } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import {
  checkStepCount,
  leadingTimesteps,
  linspaceTimesteps,
  type TimestepSpacing,
  trailingTimesteps,
} from "./timesteps.ts";
import { roundHalfEven } from "../round_half_even.ts";

/**
 * A DDIM sampler that walks as diffusers' `DDIMScheduler` with eta 0 does.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps 1 to `num_train_timesteps`
 * @throws {RangeError} when the steps do not fit the training timesteps, or when the model predicts epsilon and a
 * visited timestep holds no signal at all (zero terminal SNR), from which epsilon says nothing about the image
 */
export function createDdim(config: SchedulerConfig, numInferenceSteps: number): Scheduler {
  const trainTimesteps = config.num_train_timesteps;
  checkStepCount(numInferenceSteps, trainTimesteps);
  const alphasCumprod = computeAlphasCumprod(config);
  const timesteps = planTimesteps(config, numInferenceSteps);
  const stride = Math.floor(trainTimesteps / numInferenceSteps);
  const finalAlpha = config.set_alpha_to_one ? 1 : alphasCumprod[0]!;
  const predictsVelocity = config.prediction_type === "v_prediction";
  const range = config.clip_sample ? config.clip_sample_range : Infinity;
  for (const timestep of timesteps) {
    const alpha = alphasCumprod[timestep];
    if (alpha === undefined) {
      throw new RangeError(`timestep ${timestep} is beyond the ${trainTimesteps} trained ones`);
    }
    if (alpha === 0 && !predictsVelocity) {
      throw new RangeError("an epsilon-predicting model cannot start from zero terminal SNR with DDIM");
    }
  }
  const counter = new StepCounter(timesteps.length);

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
      const timestep = timesteps[counter.next(prediction, sample)]!;
      // diffusers steps back by a fixed stride, which need not be the next visited timestep.
      const previous = timestep - stride;
      const alpha = alphasCumprod[timestep]!;
      const previousAlpha = previous >= 0 ? alphasCumprod[previous]! : finalAlpha;
      const signal = Math.sqrt(alpha);
      const noise = Math.sqrt(1 - alpha);
      const previousSignal = Math.sqrt(previousAlpha);
      const previousNoise = Math.sqrt(1 - previousAlpha);
      const result = new Float32Array(sample.length);
      for (let i = 0; i < result.length; i++) {
        const x = sample[i]!;
        const output = prediction[i]!;
        const clean = predictsVelocity ? signal * x - noise * output : (x - noise * output) / signal;
        const epsilon = predictsVelocity ? signal * output + noise * x : output;
        const clipped = Math.min(Math.max(clean, -range), range);
        result[i] = previousSignal * clipped + previousNoise * epsilon;
      }
      return result;
    },
  };
}

function planTimesteps(config: SchedulerConfig, count: number): readonly number[] {
  const trainTimesteps = config.num_train_timesteps;
  const spacing: TimestepSpacing = config.timestep_spacing ?? "leading";
  switch (spacing) {
    case "leading":
      return leadingTimesteps(trainTimesteps, count, config.steps_offset);
    case "linspace":
      return linspaceTimesteps(trainTimesteps - 1, count).map(roundHalfEven);
    case "trailing":
      return trailingTimesteps(trainTimesteps, trainTimesteps / count);
  }
}
