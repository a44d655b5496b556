/** Similarity transforms of the plane: where a face's landmarks go when it is aligned to a template. */

/** A point in pixels, x to the right and y down; pixel centres are at whole numbers. */
export type Point = readonly [x: number, y: number];

/**
 * A 2 x 3 matrix, row by row: `(x, y)` goes to `(m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5])`. A similarity has
 * the form `[a, -b, u, b, a, v]` and the scale `hypot(a, b)`.
 */
export type Similarity = readonly [a: number, minusB: number, u: number, b: number, a2: number, v: number];

/**
 * The similarity (rotation, one scale, translation; no reflection) that takes `points` to `template` with least
 * squares: Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991), in its
 * closed form for the plane. The same convention as `idadapter.data.alignment.similarity_transform` in training.
 *
 * @param points two or more points, for example a face's five landmarks in photo pixels
 * @param template where they belong, in template pixels, in the same order
 * @returns the matrix from photo to template
 * @throws {RangeError} when the counts differ, there are fewer than two points, or all points coincide
 */
export function similarityTransform(points: readonly Point[], template: readonly Point[]): Similarity {
  const count = points.length;
  if (count !== template.length || count < 2) {
    throw new RangeError(
      `${count} points and ${template.length} template points: two or more of each are needed`,
    );
  }
  const [meanX, meanY] = mean(points);
  const [targetX, targetY] = mean(template);
  let spread = 0;
  let along = 0;
  let across = 0;
  for (let i = 0; i < count; i++) {
    const x = points[i]![0] - meanX;
    const y = points[i]![1] - meanY;
    const s = template[i]![0] - targetX;
    const t = template[i]![1] - targetY;
    spread += x * x + y * y;
    along += x * s + y * t;
    across += x * t - y * s;
  }
  if (!(spread >= 1e-12)) throw new RangeError("all points coincide");
  const a = along / spread;
  const b = across / spread;
  return [a, -b, targetX - (a * meanX - b * meanY), b, a, targetY - (b * meanX + a * meanY)];
}

/**
 * The transform that undoes `transform`.
 *
 * @throws {RangeError} when its scale is zero
 */
export function invertSimilarity(transform: Similarity): Similarity {
  const [a, , u, b, , v] = transform;
  const square = a * a + b * b;
  if (!(square > 0)) throw new RangeError("a transform of scale zero has no inverse");
  const p = a / square;
  const q = -b / square;
  return [p, -q, -(p * u - q * v), q, p, -(q * u + p * v)];
}

/** Where `transform` takes a point. */
export function applySimilarity(transform: Similarity, [x, y]: Point): Point {
  const [m0, m1, m2, m3, m4, m5] = transform;
  return [m0 * x + m1 * y + m2, m3 * x + m4 * y + m5];
}

function mean(points: readonly Point[]): Point {
  let x = 0;
  let y = 0;
  for (const point of points) {
    x += point[0];
    y += point[1];
  }
  return [x / points.length, y / points.length];
}
