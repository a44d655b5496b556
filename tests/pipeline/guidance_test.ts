import assert from "node:assert/strict";
import { applyGuidance } from "../../pipeline/guidance.ts";

Deno.test("guidance goes from the unconditional prediction through the conditional one and beyond", () => {
  const unconditional = Float32Array.of(0, 1, -2);
  const conditional = Float32Array.of(1, 1, 2);
  assert.deepEqual(applyGuidance(unconditional, conditional, 0), unconditional);
  assert.deepEqual(applyGuidance(unconditional, conditional, 1), conditional);
  assert.deepEqual(applyGuidance(unconditional, conditional, 7.5), Float32Array.of(7.5, 1, 28));
  assert.deepEqual([unconditional, conditional], [Float32Array.of(0, 1, -2), Float32Array.of(1, 1, 2)]);
});

Deno.test("guidance refuses predictions that do not fit and scales that are no numbers", () => {
  assert.throws(() => applyGuidance(new Float32Array(2), new Float32Array(3), 1), RangeError);
  assert.throws(() => applyGuidance(new Float32Array(2), new Float32Array(2), NaN), RangeError);
});
