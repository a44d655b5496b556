import assert from "node:assert/strict";
import { type Guidance, guidanceRows, guide, rescaleGuidance } from "../../pipeline/guidance.ts";
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
