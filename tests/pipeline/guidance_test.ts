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
    scheduler: "unipc",
    num_inference_steps: 12,
    guidance_scale: 3,
    identity_guidance_scale: 2,
    early_guidance_scale: null,
    early_identity_guidance_scale: null,
    early_guidance_until: 800,
    identity_strength: 1,
  } as const;
  const plain = defaultGuidance(defaults);
  assert.deepEqual(guidanceAt(plain, 999), guidanceAt(plain, 0));
  const own = defaultGuidance({ ...defaults, early_guidance_scale: 5, early_identity_guidance_scale: 0 });
  assert.deepEqual(guidanceAt(own, 999), { scale: 5, identityScale: 0, rescale: 0 });
  assert.deepEqual(guidanceAt(own, 0), { scale: 3, identityScale: 2, rescale: 0 });
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

Deno.test("rescaled guidance has the conditional prediction's spread", () => {
  const unconditional = Float32Array.of(1, -1, 0.5, 3);
  const conditional = Float32Array.of(2, -3, 0, 1);
  const guidance = { ...plain, scale: 6 };
  const guided = guide([unconditional, conditional], guidance);
  const spread = (values: Float32Array) => {
    const mean = values.reduce((sum, x) => sum + x) / values.length;
    return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0));
  };
  const whole = guide([unconditional, conditional], { ...guidance, rescale: 1 });
  assert.ok(Math.abs(spread(whole) - spread(conditional)) < 1e-5);
  const half = rescaleGuidance(guided, conditional, 0.5);
  assert.ok(maxDifference(half, guided.map((x, i) => (x + whole[i]!) / 2)) < 1e-5);
  assert.deepEqual(rescaleGuidance(new Float32Array(3), conditional.subarray(1), 1), new Float32Array(3));
});

Deno.test("guidance refuses predictions that do not fit", () => {
  assert.throws(() => guide([new Float32Array(2), new Float32Array(3)], { ...plain, scale: 2 }), RangeError);
  assert.throws(() => guide([new Float32Array(2)], { ...plain, scale: 2 }), RangeError);
  assert.throws(() => guide([], plain), RangeError);
});
