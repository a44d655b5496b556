import assert from "node:assert/strict";
import {
  applySimilarity,
  invertSimilarity,
  type Point,
  similarityTransform,
} from "../../pipeline/geometry.ts";
import { maxDifference, readJson } from "../read_fixture.ts";

const square: readonly Point[] = [[0, 0], [2, 0], [2, 2], [0, 2]];

Deno.test("exact similarities are found", () => {
  assert.deepEqual(similarityTransform(square, square), [1, -0, 0, 0, 1, 0]);
  const moved = square.map(([x, y]): Point => [x + 5, y - 3]);
  assert.ok(maxDifference(similarityTransform(square, moved), [1, 0, 5, 0, 1, -3]) < 1e-12);
  // A quarter turn that takes x to y (clockwise on a screen, where y points down), three times as large.
  const turned = square.map(([x, y]): Point => [-3 * y + 1, 3 * x + 2]);
  assert.ok(maxDifference(similarityTransform(square, turned), [0, -3, 1, 3, 0, 2]) < 1e-12);
  assert.ok(
    maxDifference(similarityTransform([[0, 0], [1, 0]], [[4, 4], [4, 6]]), [0, -2, 4, 2, 0, 4]) < 1e-12,
  );
});

Deno.test("five-point transforms agree with Umeyama's by singular values in numpy", () => {
  const cases = readJson<{ points: Point[]; template: Point[]; matrix: number[] }[]>(
    "geometry/similarities.json.gz",
  );
  assert.equal(cases.length, 40);
  let largest = 0;
  for (const { points, template, matrix } of cases) {
    largest = Math.max(largest, maxDifference(similarityTransform(points, template), matrix));
  }
  assert.ok(largest < 1e-9, `${largest}`);
});

Deno.test("the inverse takes points back", () => {
  const transform = similarityTransform(square, [[3, 1], [4, 9], [-5, 9], [-4, 2]]);
  const inverse = invertSimilarity(transform);
  for (const point of square) {
    assert.ok(maxDifference(applySimilarity(inverse, applySimilarity(transform, point)), point) < 1e-12);
  }
  assert.throws(() => invertSimilarity([0, 0, 1, 0, 0, 1]), RangeError);
});

Deno.test("point sets without a similarity are refused", () => {
  assert.throws(() => similarityTransform([[1, 1], [1, 1]], [[0, 0], [1, 0]]), RangeError);
  assert.throws(() => similarityTransform([[1, 1]], [[0, 0]]), RangeError);
  assert.throws(() => similarityTransform(square, [[0, 0]]), RangeError);
  assert.throws(() => similarityTransform([[NaN, 1], [1, 1]], [[0, 0], [1, 0]]), RangeError);
});
