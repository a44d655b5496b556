/** UniPC (Zhao et al. 2023, arXiv 2302.04867): a predictor and a corrector of second order, B(h) = e^h - 1. */

import { type NoiseLevel, noiseLevel, planLogSnr, predictClean } from "./log_snr_plan.ts";
import { type Scheduler, StepCounter } from "./scheduler.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { roundHalfEven } from "../round_half_even.ts";

/** A clean-image prediction and where it was made. */
interface Prediction {
  readonly clean: Float32Array;
  readonly level: NoiseLevel;
}

/** The step that was taken last, for the corrector to take again. */
interface LastStep {
  /** the corrected sample the step began with */
  readonly sample: Float32Array;
  readonly order: 1 | 2;
}

/**
 * A UniPC sampler that walks as diffusers' `UniPCMultistepScheduler` with `solver_order` 2, `solver_type` `bh2` and
 * `predict_x0` does: before each step the sample is corrected by what the model has just said of it.
 *
 * @param config the model's scheduler configuration
 * @param numInferenceSteps 1 to `num_train_timesteps` (one less with leading spacing)
 * @throws {RangeError} when the steps do not fit the training timesteps
 */
export function createUniPc(config: SchedulerConfig, numInferenceSteps: number): Scheduler {
  const { timesteps, sigmas } = planUniPc(config, numInferenceSteps);
  const count = timesteps.length;
  const predictsVelocity = config.prediction_type === "v_prediction";
  const counter = new StepCounter(count);
  /** the latest prediction and the one before it */
  let history: readonly Prediction[] = [];
  let last: LastStep | undefined;

  /** 2 once there are two predictions; the last step, whose lambda may be infinite, is of first order. */
  const orderOf = (index: number) =>
    index === 0 || (index === count - 1 && (config.lower_order_final || sigmas[count] === 0)) ? 1 : 2;

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
      const index = counter.next(prediction, sample);
      const level = noiseLevel(sigmas[index]!);
      const clean = predictClean(sample, prediction, level, predictsVelocity);
      const corrected = last === undefined ? sample : correct(last, history, { clean, level });
      history = [{ clean, level }, ...history.slice(0, 1)];
      const order = orderOf(index);
      last = { sample: new Float32Array(corrected), order };
      return predict(corrected, history, noiseLevel(sigmas[index + 1]!), order);
    },
  };
}

/** UniP: equation 9 with x0 prediction; at second order diffusers sets the one coefficient to 1/2. */
function predict(
  sample: Float32Array,
  [latest, earlier]: readonly Prediction[],
  to: NoiseLevel,
  order: 1 | 2,
): Float32Array<ArrayBuffer> {
  const { clean, level: from } = latest!;
  const width = to.lambda - from.lambda;
  const keep = to.sigma / from.sigma;
  const gain = -to.alpha * Math.expm1(-width);
  const before = order === 1 ? undefined : earlier;
  const slope = before === undefined ? 0 : 0.5 * gain * width / (before.level.lambda - from.lambda);
  const past = before?.clean ?? clean;
  const result = new Float32Array(sample.length);
  for (let i = 0; i < result.length; i++) {
    result[i] = keep * sample[i]! + gain * clean[i]! + slope * (past[i]! - clean[i]!);
  }
  return result;
}

/** UniC: the last step again, now that the model has been asked where it led (equation 10, coefficients by 11). */
function correct(
  { sample, order }: LastStep,
  [latest, earlier]: readonly Prediction[],
  reached: Prediction,
): Float32Array {
  const { clean, level: from } = latest!;
  const width = reached.level.lambda - from.lambda;
  const keep = reached.level.sigma / from.sigma;
  const base = Math.expm1(-width);
  const gain = -reached.level.alpha * base;
  const first = (-base / width - 1) / base;
  const second = 2 * (-(-base / width - 1) / width - 1 / 2) / base;
  const before = order === 1 ? undefined : earlier;
  const ratio = before === undefined ? 0 : (before.level.lambda - from.lambda) / width;
  const past = before === undefined ? 0 : (first - second) / (1 - ratio);
  const present = before === undefined ? 1 / 2 : first - past;
  const slope = before === undefined ? 0 : past / ratio;
  const [earlierClean, reachedClean] = [before?.clean ?? clean, reached.clean];
  const result = new Float32Array(sample.length);
  for (let i = 0; i < result.length; i++) {
    const change = slope * (earlierClean[i]! - clean[i]!) + present * (reachedClean[i]! - clean[i]!);
    result[i] = keep * sample[i]! + gain * (clean[i]! + change);
  }
  return result;
}

/** diffusers' plan of DPM-Solver++, less what UniPC does not have: a clipped lambda, Karras timesteps that are cut. */
function planUniPc(config: SchedulerConfig, count: number) {
  const plan = planLogSnr({ ...config, lambda_min_clipped: null }, count, roundHalfEven);
  if (config.use_karras_sigmas && config.final_sigmas_type === "sigma_min") {
    plan.sigmas[count] = plan.sigmas[count - 1]!;
  }
  return plan;
}
