import assert from "node:assert/strict";
import { ZodError } from "zod";
import { TorchGenerator } from "../../pipeline/noise.ts";
import { PipelineError, type SchedulerName } from "../../pipeline/protocol.ts";
import { createScheduler, schedulerNames } from "../../pipeline/schedulers/create_scheduler.ts";
import {
  parseSchedulerConfig,
  type SchedulerConfig,
  schedulerConfigSchema,
} from "../../pipeline/schedulers/scheduler_config.ts";
import { roundHalfEven } from "../../pipeline/round_half_even.ts";
import { trailingTimesteps } from "../../pipeline/schedulers/timesteps.ts";
import { maxDifference, readFloats, readJson } from "../read_fixture.ts";

interface Trajectory {
  readonly name: SchedulerName;
  readonly config: Record<string, unknown>;
  readonly steps: number;
  readonly timesteps: readonly number[];
  readonly init_noise_sigma: number;
  /** At each timestep a and b of the prediction a x + b m: the best denoiser of images about the means m. */
  readonly predictions: readonly (readonly [number, number])[];
}

/** A stand-in for the UNet. */
function fakePrediction(input: Float32Array, timestep: number): Float32Array {
  return input.map((x, j) => 0.3 * x + 0.5 * Math.sin(0.7 * j + 0.01 * timestep));
}

/** What the bundled model is trained for. */
const velocityConfig: SchedulerConfig = schedulerConfigSchema.parse({
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  prediction_type: "v_prediction",
  timestep_spacing: "trailing",
  rescale_betas_zero_snr: true,
});

Deno.test("whole trajectories agree with diffusers to 1e-4 (ancestral ones from zero SNR to 2e-4 before the end), timesteps exactly", async (t) => {
  const { means, trajectories } = readJson<{ means: number[]; trajectories: Trajectory[] }>(
    "schedulers/trajectories.json.gz",
  );
  const size = means.length;
  const values = readFloats("schedulers/trajectories.bin");
  let offset = 0;
  for (const { name, config, steps, timesteps, init_noise_sigma, predictions } of trajectories) {
    const start = offset;
    const sampleAt = (i: number) => values.slice(start + i * size, start + (i + 1) * size);
    offset += (timesteps.length + 1) * size;
    await t.step(`${name}, ${steps} steps, ${JSON.stringify(config)}`, () => {
      const scheduler = createScheduler(
        name,
        schedulerConfigSchema.parse(config),
        steps,
        new TorchGenerator(21),
      );
      // Between whole timesteps the last digits hang on how a machine takes logarithms.
      if (timesteps.every(Number.isInteger)) assert.deepEqual(scheduler.timesteps, timesteps);
      else assert.ok(maxDifference(scheduler.timesteps, timesteps) < 1e-3);
      assert.ok(Math.abs(scheduler.initNoiseSigma / init_noise_sigma - 1) < 1e-6);
      let sample: Float32Array = sampleAt(0);
      for (const [i, [a, b]] of predictions.entries()) {
        const prediction = scheduler.scaleModelInput(sample, i).map((x, j) => a * x + b * means[j]!);
        sample = scheduler.step(prediction, sample);
        const expected = sampleAt(i + 1);
        // From zero SNR ancestral samples begin in the thousands, where a float32 has no digit of 1e-4: that step is
        // compared as the UNet sees its result, and what it left off is nothing at the end.
        const huge = ["euler_ancestral", "euler_restart"].includes(name) && init_noise_sigma > 1000;
        const difference = huge && i === 0 && steps > 1
          ? maxDifference(scheduler.scaleModelInput(sample, 1), scheduler.scaleModelInput(expected, 1))
          : maxDifference(sample, expected);
        const tolerance = huge && i < steps - 1 ? 2e-4 : 1e-4;
        assert.ok(difference <= tolerance, `after step ${i}: ${difference}`);
      }
    });
  }
  assert.equal(offset, values.length);
});

Deno.test("timesteps of every step count of 1 to 100 are those of diffusers", () => {
  const plans = readJson<{ name: SchedulerName; spacing: string; timesteps: number[][] }[]>(
    "schedulers/timesteps.json.gz",
  );
  assert.equal(plans.length, 21);
  for (const { name, spacing, timesteps } of plans) {
    const config = schedulerConfigSchema.parse({ timestep_spacing: spacing });
    for (const [index, expected] of timesteps.entries()) {
      // numpy's arange adds a timestep of -1 to diffusers' trailing plan of 61 steps.
      const meaningful = expected.at(-1) === -1 || expected.length > index + 1
        ? expected.slice(0, index + 1)
        : expected;
      assert.deepEqual(
        createScheduler(name, config, index + 1, new TorchGenerator(0)).timesteps,
        meaningful,
        `${name} ${spacing} ${index + 1}`,
      );
    }
  }
});

Deno.test("zero terminal SNR: every sampler starts at the last timestep and ends at the image of a model that knows it", () => {
  for (const name of schedulerNames) {
    const scheduler = createScheduler(name, velocityConfig, 20, new TorchGenerator(1));
    assert.equal(scheduler.timesteps[0], 999);
    assert.equal(scheduler.timesteps.length, 20);
    // A model that knows the image: x0 = signal x - noise v, so v = (signal x - x0) / noise.
    const image = 0.25;
    let sample: Float32Array = new Float32Array(4).fill(scheduler.initNoiseSigma);
    const alphas = plainAlphas();
    for (const [i, timestep] of scheduler.timesteps.entries()) {
      const alpha = alphas[timestep]!;
      const velocity = scheduler.scaleModelInput(sample, i)
        .map((x) => (Math.sqrt(alpha) * x - image) / Math.sqrt(1 - alpha));
      sample = scheduler.step(velocity, sample);
    }
    assert.ok(maxDifference(sample, new Float32Array(4).fill(image)) < 1e-3, `${name}: ${sample[0]}`);
  }
});

/** Cumulative alphas of {@linkcode velocityConfig} in plain float64, written independently of the pipeline. */
function plainAlphas(): number[] {
  const roots: number[] = [];
  let product = 1;
  for (let t = 0; t < 1000; t++) {
    product *= 1 - (Math.sqrt(0.00085) + (Math.sqrt(0.012) - Math.sqrt(0.00085)) * t / 999) ** 2;
    roots.push(Math.sqrt(product));
  }
  const [first, last] = [roots[0]!, roots[999]!];
  return roots.map((root) => ((root - last) * first / (first - last)) ** 2);
}

Deno.test("a restart sampler goes back twice, and what it then finishes does not hang on what went wrong before", () => {
  const scheduler = createScheduler("euler_restart", velocityConfig, 24, new TorchGenerator(1));
  const { timesteps } = scheduler;
  assert.equal(timesteps.length, 24);
  const rises = timesteps.flatMap((timestep, i) => i > 0 && timestep > timesteps[i - 1]! ? [i] : []);
  assert.deepEqual(rises.map((i) => timesteps[i]), [699, 449]);
  for (const few of [1, 2]) {
    const short = createScheduler("euler_restart", velocityConfig, few, new TorchGenerator(1)).timesteps;
    assert.deepEqual(
      short,
      createScheduler("euler_ancestral", velocityConfig, few, new TorchGenerator(1)).timesteps,
    );
  }
  // A model that is wrong until the first restart and knows the image after it.
  const image = 0.25;
  const alphas = plainAlphas();
  let sample: Float32Array = new Float32Array(4).fill(scheduler.initNoiseSigma);
  for (const [i, timestep] of timesteps.entries()) {
    const answer = i < rises[0]! ? 0.6 : image;
    const alpha = alphas[timestep]!;
    const velocity = scheduler.scaleModelInput(sample, i)
      .map((x) => (Math.sqrt(alpha) * x - answer) / Math.sqrt(1 - alpha));
    sample = scheduler.step(velocity, sample);
    if (i === rises[0]! - 1) {
      assert.ok(maxDifference(sample, new Float32Array(4).fill(0.6)) > 0.1, "noise was added");
    }
  }
  assert.ok(maxDifference(sample, new Float32Array(4).fill(image)) < 1e-3);
});

Deno.test("samplers neither keep nor change what they are given, and do not share state", () => {
  for (const name of schedulerNames) {
    const alone = createScheduler(name, velocityConfig, 6, new TorchGenerator(1));
    const beside = createScheduler(name, velocityConfig, 6, new TorchGenerator(1));
    const other = createScheduler(name, velocityConfig, 4, new TorchGenerator(1));
    let expected: Float32Array = Float32Array.of(1, -2, 0.5);
    let sample: Float32Array = Float32Array.from(expected);
    for (let i = 0; i < 6; i++) {
      const input = alone.scaleModelInput(expected, i);
      assert.notEqual(input.buffer, expected.buffer);
      const prediction = fakePrediction(input, alone.timesteps[i]!);
      const [predictionBefore, sampleBefore] = [prediction.slice(), expected.slice()];
      const next = alone.step(prediction, expected);
      assert.deepEqual([prediction, expected], [predictionBefore, sampleBefore]);
      expected = next;

      if (i < 4) other.step(Float32Array.of(9), Float32Array.of(9));
      const scratch = fakePrediction(beside.scaleModelInput(sample, i), beside.timesteps[i]!);
      const previous = sample;
      sample = beside.step(scratch, sample);
      scratch.fill(NaN);
      previous.fill(NaN);
      assert.deepEqual(sample, expected);
      assert.equal(beside.stepIndex, i + 1);
    }
  }
});

Deno.test("steps beyond the plan and arrays that do not fit are refused", () => {
  for (const name of schedulerNames) {
    const scheduler = createScheduler(name, velocityConfig, 1, new TorchGenerator(1));
    assert.throws(() => scheduler.step(new Float32Array(2), new Float32Array(3)), RangeError);
    assert.equal(scheduler.stepIndex, 0);
    scheduler.step(new Float32Array(3), new Float32Array(3));
    assert.throws(() => scheduler.step(new Float32Array(3), new Float32Array(3)), RangeError);
    assert.throws(() => scheduler.scaleModelInput(new Float32Array(3), 1), RangeError);
    for (const steps of [0, -1, 1.5, 1001, NaN]) {
      assert.throws(() => createScheduler(name, velocityConfig, steps, new TorchGenerator(1)), RangeError);
    }
  }
  assert.throws(
    () => createScheduler("toString" as SchedulerName, velocityConfig, 1, new TorchGenerator(1)),
    (error) => error instanceof PipelineError && error.code === "scheduler_unknown",
  );
});

Deno.test("DDIM refuses epsilon where nothing but noise is left", () => {
  const config: SchedulerConfig = { ...velocityConfig, prediction_type: "epsilon" };
  assert.throws(() => createScheduler("ddim", config, 20, new TorchGenerator(1)), RangeError);
  assert.equal(
    createScheduler("ddim", { ...config, timestep_spacing: "leading" }, 20, new TorchGenerator(1))
      .timesteps[0],
    950,
  );
});

Deno.test("a scheduler_config.json as diffusers writes it is read, -Infinity and all", () => {
  const config = parseSchedulerConfig(`{
    "_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.0", "algorithm_type": "dpmsolver++",
    "beta_schedule": "scaled_linear", "lambda_min_clipped": -Infinity, "trained_betas": null, "use_karras_sigmas": null,
    "thresholding": false, "prediction_type": "v_prediction", "steps_offset": 1
  }`);
  assert.equal(config.lambda_min_clipped, null);
  assert.equal(config.prediction_type, "v_prediction");
  assert.equal(config.use_karras_sigmas, false);
  assert.equal(config.clip_sample, false);
  assert.equal(config.timestep_spacing, undefined);
});

Deno.test("configurations that would give other pictures than diffusers are refused", () => {
  for (
    const wrong of [
      { thresholding: true },
      { use_beta_sigmas: true },
      { interpolation_type: "log_linear" },
      { prediction_type: "sample" },
      { beta_schedule: "sigmoid" },
      { trained_betas: [0.1, 0.2] },
      { beta_end: 1 },
    ]
  ) {
    assert.throws(
      () => schedulerConfigSchema.parse(wrong),
      (error) => error instanceof ZodError,
      JSON.stringify(wrong),
    );
  }
  const trained = schedulerConfigSchema.parse({ num_train_timesteps: 3, trained_betas: [0.1, 0.2, 0.4] });
  assert.deepEqual(createScheduler("ddim", trained, 3, new TorchGenerator(1)).timesteps, [2, 1, 0]);
});

Deno.test("halves round to the even number and trailing timesteps never go below 0", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4999, 812.5, 813.5].map(roundHalfEven), [0, 2, 2, 2, 812, 814]);
  assert.equal(trailingTimesteps(1000, 1000 / 61).length, 61);
  assert.deepEqual(trailingTimesteps(1000, 250), [999, 749, 499, 249]);
});
