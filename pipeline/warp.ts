import type { FloatTensor } from "../models/tensor.ts";
import { invertSimilarity, type Similarity } from "./geometry.ts";
import { clamp, interpolate, interpolateSquare, type Source } from "./interpolate.ts";
import type { Photo } from "./photo.ts";

/** A rectangle of whole pixels: `left` and `top` belong to it, `right` and `bottom` are one beyond it. */
interface Region {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/**
 * A photo under a similarity transform, without aliasing: the rule of docs/bundle.md, and of `align_face` in
 * training/idadapter/data/alignment.py, pixel by pixel.
 *
 * When the transform shrinks the photo to less than half (scale s, f = floor(1/s) >= 2), each f x f square of
 * pixels is first replaced by its mean rounded to a byte (halves up), squares that reach over the right or bottom edge
 * being filled up by repeating the last column or row. The rest is one bilinear interpolation (halves to the even
 * byte); beyond the photo the nearest edge pixel counts.
 *
 * @param photo the photo
 * @param transform photo pixels to output pixels
 * @param width of the output
 * @param height of the output, `width` by default
 * @returns the output
 *
 * @example
 * ```ts
 * const half = warp(photo, [0.5, 0, -0.25, 0, 0.5, -0.25], 128);
 * ```
 */
export function warp(photo: Photo, transform: Similarity, width: number, height: number = width): Photo {
  const { source, inverse } = look(photo, transform, width, height);
  return interpolate(source, inverse, width, height);
}

/**
 * {@linkcode warp} without rotation, as a graph wants the pixels; black at the right and bottom of a square.
 *
 * @param photo the photo
 * @param transform photo pixels to output pixels, without rotation
 * @param width of what shows the photo
 * @param height of what shows the photo
 * @param side of the square, `width` and `height` at least
 * @param data what to write the square into, all zeros; an array of its own by default
 * @returns [1, 3, side, side] RGB in 0..1
 *
 * @example
 * ```ts
 * const half = warpToSquare(photo, [0.5, 0, -0.25, 0, 0.5, -0.25], 128, 96, 128);
 * ```
 */
export function warpToSquare(
  photo: Photo,
  transform: Similarity,
  width: number,
  height: number,
  side: number,
  data?: Float32Array,
): FloatTensor {
  const [a, b, c, d, e, f] = transform;
  const stays = a === 1 && b === 0 && c === 0 && d === 0 && e === 1 && f === 0;
  if (stays && width === photo.width && height === photo.height) {
    const square = data ?? new Float32Array(3 * side * side);
    writePlanes(photo, square, side, side * side);
    return { data: square, dims: [1, 3, side, side] };
  }
  const { source, inverse } = look(photo, transform, width, height);
  return interpolateSquare(source, inverse, width, height, side, data);
}

/** What to interpolate, reduced first where the transform shrinks it, and where each output pixel looks. */
function look(
  photo: Photo,
  transform: Similarity,
  width: number,
  height: number,
): { source: Source; inverse: Similarity } {
  const factor = Math.floor(1 / Math.hypot(transform[0], transform[3]) + 1e-9);
  if (factor < 2) {
    const { width: columns, height: rows } = photo;
    const source = { part: photo, columns, rows, left: 0, top: 0 };
    return { source, inverse: invertSimilarity(transform) };
  }
  const inverse = invertSimilarity(ofReduced(transform, factor));
  const columns = Math.ceil(photo.width / factor);
  const rows = Math.ceil(photo.height / factor);
  const region = touched(inverse, width, height, columns, rows);
  const reduced = reduceArea(photo, factor, region);
  return { source: { part: reduced, columns, rows, ...region }, inverse };
}

/** Bytes as shares of 255. */
const UNIT = Float32Array.from({ length: 256 }, (_, byte) => byte / 255);

/**
 * Pixels as a graph wants them.
 *
 * @param photos pictures of one size
 * @returns [n, 3, height, width] RGB in 0..1
 * @throws {RangeError} there are no pictures, or their sizes differ
 *
 * @example
 * ```ts
 * const faces = toTensor([warp(photo, transform, 96)]); // [1, 3, 96, 96]
 * ```
 */
export function toTensor(photos: readonly Photo[]): FloatTensor {
  const [first] = photos;
  if (first === undefined) throw new RangeError("no pictures");
  const { width, height } = first;
  const plane = width * height;
  const data = new Float32Array(photos.length * 3 * plane);
  photos.forEach((photo, index) => {
    if (photo.width !== width || photo.height !== height) throw new RangeError("pictures of different sizes");
    writePlanes(photo, data.subarray(3 * plane * index), width, plane);
  });
  return { data, dims: [photos.length, 3, height, width] };
}

/** Writes a picture's bytes as shares of 255, channel by channel: rows `stride` apart, channels `plane`. */
function writePlanes(
  { data: bytes, width, height }: Photo,
  into: Float32Array,
  stride: number,
  plane: number,
): void {
  const [red, green, blue] = [0, 1, 2].map((channel) =>
    into.subarray(channel * plane, (channel + 1) * plane)
  ) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  for (let row = 0, at = 0; row < height; row++) {
    for (let pixel = row * stride, end = pixel + width; pixel < end; pixel++) {
      red[pixel] = UNIT[bytes[at++]!]!;
      green[pixel] = UNIT[bytes[at++]!]!;
      blue[pixel] = UNIT[bytes[at++]!]!;
    }
  }
}

/** The same map from the coordinates of a photo reduced by `factor`: p = factor p' + (factor - 1) / 2. */
function ofReduced([a, b, c, d, e, f]: Similarity, factor: number): Similarity {
  const shift = (factor - 1) / 2;
  return [a * factor, b * factor, (a + b) * shift + c, d * factor, e * factor, (d + e) * shift + f];
}

/** Which pixels of a picture of `columns` x `rows` the output's corners, and so all of it, can reach. */
function touched(inverse: Similarity, width: number, height: number, columns: number, rows: number): Region {
  const [a, b, c, d, e, f] = inverse;
  const corners = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]] as const;
  const xs = corners.map(([u, v]) => a * u + b * v + c);
  const ys = corners.map(([u, v]) => d * u + e * v + f);
  const left = clamp(Math.floor(Math.min(...xs)) - 1, 0, columns - 1);
  const top = clamp(Math.floor(Math.min(...ys)) - 1, 0, rows - 1);
  return {
    left,
    top,
    right: clamp(Math.floor(Math.max(...xs)) + 3, left + 1, columns),
    bottom: clamp(Math.floor(Math.max(...ys)) + 3, top + 1, rows),
  };
}

/** The part `region` of the photo reduced by averaging `factor` x `factor` squares, halves up. */
function reduceArea(photo: Photo, factor: number, region: Region): Photo {
  const width = region.right - region.left;
  const height = region.bottom - region.top;
  const data = new Uint8Array(width * height * 3);
  const sums = new Int32Array(width * 3);
  const area = factor * factor;
  for (let row = 0; row < height; row++) {
    sums.fill(0);
    for (let dy = 0; dy < factor; dy++) {
      const y = Math.min((region.top + row) * factor + dy, photo.height - 1);
      addReducedRow(sums, photo, y, region.left * factor, factor);
    }
    const start = row * width * 3;
    for (let index = 0; index < sums.length; index++) {
      data[start + index] = (2 * sums[index]! + area) / (2 * area);
    }
  }
  return { width, height, data };
}

/** Adds row `y` of the photo to `sums`, `factor` pixels a sum, beginning at column `left`. */
function addReducedRow(sums: Int32Array, photo: Photo, y: number, left: number, factor: number): void {
  const { data, width } = photo;
  const columns = sums.length / 3;
  // all but the last square may reach no further than the photo
  const whole = Math.min(columns, Math.floor((width - left) / factor));
  let at = (y * width + left) * 3;
  for (let column = 0; column < whole; column++) {
    let red = 0, green = 0, blue = 0;
    for (let dx = 0; dx < factor; dx++) {
      red += data[at++]!;
      green += data[at++]!;
      blue += data[at++]!;
    }
    sums[3 * column]! += red;
    sums[3 * column + 1]! += green;
    sums[3 * column + 2]! += blue;
  }
  for (let column = whole; column < columns; column++) {
    for (let dx = 0; dx < factor; dx++) {
      const edge = (y * width + Math.min(left + column * factor + dx, width - 1)) * 3;
      for (let channel = 0; channel < 3; channel++) sums[3 * column + channel]! += data[edge + channel]!;
    }
  }
}
