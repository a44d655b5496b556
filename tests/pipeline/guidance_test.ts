import assert from "node:assert/strict";
import {
  defaultGuidance,
  type Guidance,
  guidanceAt,
  guidanceRows,
  type GuidanceSchedule,
  guide,
  rescaleGuidance,
  rowKinds,
} from "../../pipeline/guidance.ts";
import { NoiseLevels } from "../../pipeline/schedulers/noise_levels.ts";
import { parseSchedulerConfig } from "../../pipeline/schedulers/scheduler_config.ts";
import { maxDifference } from "../read_fixture.ts";

const plain: Guidance = { scale: 1, identityScale: null, rescale: 0 };
const kinds = (guidance: Partial<Guidance>) =>
  guidanceRows({ ...plain, ...guidance }).map(({ kind }) => kind).join(" ");

Deno.test("guidance goes through the conditional prediction and beyond", () => {
  const unconditional = Float32Array.of(0, 1, -2);
  const conditional = Float32Array.of(1, 1, 2);
  assert.deepEqual(guide([conditional], plain), conditional);
  assert.deepEqual(
    guide([unconditional, conditional], { ...plain, scale: 7.5 }),
    Float32Array.of(7.5, 1, 28),
  );
  assert.deepEqual([unconditional, conditional], [Float32Array.of(0, 1, -2), Float32Array.of(1, 1, 2)]);
});

Deno.test("a row that counts nothing is not asked for", () => {
  assert.equal(kinds({}), "conditional");
  assert.equal(kinds({ scale: 3 }), "unconditional conditional");
  assert.equal(kinds({ scale: 3, identityScale: 3 }), "unconditional conditional");
  assert.equal(kinds({ scale: 1, identityScale: 2 }), "words conditional");
  assert.equal(kinds({ scale: 3, identityScale: 1 }), "unconditional words conditional");
  // It counts nothing, and is what rescaling goes by.
  assert.equal(kinds({ scale: 3, identityScale: 0 }), "unconditional words conditional");
});

Deno.test("the steps that begin a picture are guided by scales of their own, and their last timestep is one of them", () => {
  const early = { untilTimestep: 800, scale: 4, identityScale: 1 };
  const schedule: GuidanceSchedule = { scale: 2, identityScale: null, rescale: 0.7, early };
  assert.deepEqual(guidanceAt(schedule, 999), { scale: 4, identityScale: 1, rescale: 0.7 });
  assert.deepEqual(guidanceAt(schedule, 800), guidanceAt(schedule, 999));
  assert.deepEqual(guidanceAt(schedule, 799.9), { scale: 2, identityScale: null, rescale: 0.7 });
  assert.deepEqual(guidanceAt({ ...schedule, early: null }, 999), guidanceAt(schedule, 0));
});

Deno.test("a picture has the rows that count in any of its steps", () => {
  const early = { untilTimestep: 800, scale: 4, identityScale: 1 };
  assert.deepEqual(rowKinds({ ...plain, early: null }), ["conditional"]);
  assert.deepEqual(rowKinds({ ...plain, scale: 2, early: null }), ["unconditional", "conditional"]);
  assert.deepEqual(rowKinds({ ...plain, early }), ["unconditional", "words", "conditional"]);
  const wordless = { ...early, scale: 1, identityScale: 3 };
  assert.deepEqual(rowKinds({ ...plain, early: wordless }), ["words", "conditional"]);
});

Deno.test("a model that says nothing of the first steps guides them as the others", () => {
  const defaults = {
    negative_prompt: "",
    scheduler: "unipc",
    num_inference_steps: 12,
    guidance_scale: 3,
    identity_guidance_scale: 2,
    early_guidance_scale: null,
    early_identity_guidance_scale: null,
    early_guidance_until: 800,
    guidance_rescale: 0.5,
    identity_strength: 1,
    pose_variation: 0,
  } as const;
  const plain = defaultGuidance(defaults);
  assert.deepEqual(guidanceAt(plain, 999), guidanceAt(plain, 0));
  const own = defaultGuidance({ ...defaults, early_guidance_scale: 5, early_identity_guidance_scale: 0 });
  assert.deepEqual(guidanceAt(own, 999), { scale: 5, identityScale: 0, rescale: 0.5 });
  assert.deepEqual(guidanceAt(own, 0), { scale: 3, identityScale: 2, rescale: 0.5 });
});

Deno.test("words and person are guided each by its own scale", () => {
  const [nothing, words, both] = [
    Float32Array.of(1, 0),
    Float32Array.of(4, 0),
    Float32Array.of(4, 2),
  ] as const;
  const guided = guide([nothing, words, both], { ...plain, scale: 3, identityScale: 5 });
  // The words' direction is the first number, the person's the second.
  assert.deepEqual(guided, Float32Array.of(1 + 3 * 3, 5 * 2));
  assert.deepEqual(guide([words, both], { ...plain, scale: 1, identityScale: 5 }), Float32Array.of(4, 10));
  const nobody = guide([nothing, words, both], { ...plain, scale: 3, identityScale: 0 });
  assert.deepEqual(nobody, Float32Array.of(1 + 3 * 3, 0));
});

const spread = (values: Float32Array) => {
  const mean = values.reduce((sum, x) => sum + x) / values.length;
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0));
};

Deno.test("rescaled guidance means a clean latent of the conditional one's spread, and takes out as much noise", () => {
  const clean = Float32Array.of(0.3, -1.2, 0.8, 0.1);
  const noise = Float32Array.of(-0.5, 0.9, 1.7, -1.1);
  for (const prediction_type of ["epsilon", "v_prediction"] as const) {
    const levels = new NoiseLevels(
      parseSchedulerConfig(JSON.stringify({ prediction_type, beta_schedule: "scaled_linear" })),
    );
    for (const timestep of [100, 500, 900]) {
      const parts = levels.cleanPartsAt(timestep);
      const sigma = parts.noise;
      const alpha = Math.sqrt(1 - sigma ** 2);
      const noisy = clean.map((x, i) => alpha * x + sigma * noise[i]!);
      // what a model says that takes z_0 to be `x`
      const predict = (x: Float32Array) =>
        prediction_type === "epsilon"
          ? noisy.map((z, i) => (z - alpha * x[i]!) / sigma)
          : noisy.map((z, i) => (alpha * z - x[i]!) / sigma);
      const cleanOf = (prediction: Float32Array) =>
        levels.predictClean({ timestep, input: noisy, prediction });
      const conditional = predict(clean);
      const guided = predict(clean.map((x) => 3 * x));
      const rescale = (phi: number) => rescaleGuidance(guided, conditional, { noisy, ...parts }, phi);
      const where = `${prediction_type} at ${timestep}`;
      assert.ok(maxDifference(cleanOf(rescale(1)), clean) < 1e-3, where);
      assert.ok(maxDifference(cleanOf(rescale(0.5)), clean.map((x) => 2 * x)) < 1e-3, where);
      assert.equal(rescale(0), guided);
      assert.equal(rescaleGuidance(conditional, conditional, { noisy, ...parts }, 1), conditional);
    }
  }
});

Deno.test("where all is noise a guided velocity is rescaled as Lin et al. do it", () => {
  const noisy = Float32Array.of(1, -2, 0.5, 0.5);
  const conditional = Float32Array.of(2, -3, 0, 1);
  const guided = Float32Array.of(7, -13, -2.5, -9);
  const whole = rescaleGuidance(guided, conditional, { noisy, signal: 0, noise: 1 }, 1);
  const factor = spread(conditional) / spread(guided);
  assert.ok(maxDifference(whole, guided.map((x) => factor * x)) < 1e-5);
  const flat = rescaleGuidance(new Float32Array(3), conditional.subarray(1), {
    noisy: noisy.subarray(1),
    signal: 0,
    noise: 1,
  }, 1);
  assert.deepEqual(flat, new Float32Array(3));
});

Deno.test("guidance refuses predictions that do not fit", () => {
  assert.throws(() => guide([new Float32Array(2), new Float32Array(3)], { ...plain, scale: 2 }), RangeError);
  assert.throws(() => guide([new Float32Array(2)], { ...plain, scale: 2 }), RangeError);
  assert.throws(() => guide([], plain), RangeError);
});
