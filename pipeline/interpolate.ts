import type { FloatTensor } from "../models/tensor.ts";
import type { Similarity } from "./geometry.ts";
import type { Photo } from "./photo.ts";

/** A picture to look into, of which only a piece is at hand. */
export interface Source {
  /** the piece; holds every pixel that is looked at */
  readonly part: Photo;
  /** size of the whole picture */
  readonly columns: number;
  readonly rows: number;
  /** where the piece begins in it */
  readonly left: number;
  readonly top: number;
}

/**
 * Bilinear interpolation, halves to the even byte; beyond the picture the nearest edge pixel counts.
 *
 * @param source the picture
 * @param inverse output pixels to pixels of the whole picture
 * @param width of the output
 * @param height of the output
 * @returns the output
 *
 * @example
 * ```ts
 * const source = { part: photo, columns: photo.width, rows: photo.height, left: 0, top: 0 };
 * const half = interpolate(source, invertSimilarity([0.5, 0, -0.25, 0, 0.5, -0.25]), 64, 64);
 * ```
 */
export function interpolate(source: Source, inverse: Similarity, width: number, height: number): Photo {
  const [a, b, c, d, e, f] = inverse;
  const { part: { data: pixels, width: stride }, columns, rows, left, top } = source;
  const data = new Uint8Array(width * height * 3);
  let at = 0;
  for (let v = 0; v < height; v++) {
    for (let u = 0; u < width; u++) {
      const x = a * u + b * v + c;
      const y = d * u + e * v + f;
      const x0 = Math.floor(x);
      const y0 = Math.floor(y);
      const fx = x - x0;
      const fy = y - y0;
      let upper0 = ((y0 - top) * stride + x0 - left) * 3;
      let upper1 = upper0 + 3;
      let lower0 = upper0 + stride * 3;
      let lower1 = lower0 + 3;
      if (x0 < 0 || y0 < 0 || x0 + 1 >= columns || y0 + 1 >= rows) {
        const column0 = clamp(x0, 0, columns - 1) - left;
        const column1 = clamp(x0 + 1, 0, columns - 1) - left;
        const row0 = (clamp(y0, 0, rows - 1) - top) * stride;
        const row1 = (clamp(y0 + 1, 0, rows - 1) - top) * stride;
        [upper0, upper1] = [(row0 + column0) * 3, (row0 + column1) * 3];
        [lower0, lower1] = [(row1 + column0) * 3, (row1 + column1) * 3];
      }
      for (let channel = 0; channel < 3; channel++) {
        const upper = pixels[upper0 + channel]! * (1 - fx) + pixels[upper1 + channel]! * fx;
        const lower = pixels[lower0 + channel]! * (1 - fx) + pixels[lower1 + channel]! * fx;
        data[at++] = upper * (1 - fy) + lower * fy + ROUND - ROUND;
      }
    }
  }
  return { width, height, data };
}

/** Added and taken away again, it leaves the nearest whole number, of two the even one: 1.5 times 2^52. */
const ROUND = 6_755_399_441_055_744;

/** Shares of 255: for every byte the same number in single precision as its quotient. */
const UNIT = 1 / 255;

/** Where along one axis each output pixel looks, and how much of the further of two neighbours it takes. */
interface Axis {
  readonly near: Int32Array;
  readonly far: Int32Array;
  readonly share: Float64Array;
}

function planAxis(length: number, scale: number, shift: number, sourceLength: number, start: number): Axis {
  const plan = {
    near: new Int32Array(length),
    far: new Int32Array(length),
    share: new Float64Array(length),
  };
  for (let index = 0; index < length; index++) {
    const position = scale * index + shift;
    const floor = Math.floor(position);
    plan.near[index] = clamp(floor, 0, sourceLength - 1) - start;
    plan.far[index] = clamp(floor + 1, 0, sourceLength - 1) - start;
    plan.share[index] = position - floor;
  }
  return plan;
}

/** A row of the picture, interpolated across: [3, width]. */
interface Line {
  row: number;
  readonly values: Float64Array;
}

/** The lines that an output's rows lie between, each interpolated once: rows come in order, so two are all it needs. */
class Lines {
  /** between which the row lies */
  upper: Float64Array;
  lower: Float64Array;
  /** how much of the lower one it takes */
  share = 0;
  readonly #part: Photo;
  readonly #across: Axis;
  readonly #down: Axis;
  #near: Line;
  #far: Line;

  constructor(
    { part, columns, rows, left, top }: Source,
    [a, , c, , e, f]: Similarity,
    width: number,
    height: number,
  ) {
    this.#part = part;
    this.#across = planAxis(width, a, c, columns, left);
    this.#down = planAxis(height, e, f, rows, top);
    this.#near = { row: -1, values: new Float64Array(3 * width) };
    this.#far = { row: -1, values: new Float64Array(3 * width) };
    this.upper = this.lower = this.#near.values;
  }

  /** Goes to row v of the output; they are asked for in order. */
  goTo(v: number): void {
    const [near, far] = [this.#down.near[v]!, this.#down.far[v]!];
    if (this.#near.row !== near) [this.#near, this.#far] = [this.#far, this.#near];
    this.#fill(this.#near, near);
    if (far !== near) this.#fill(this.#far, far);
    this.upper = this.#near.values;
    this.lower = far === near ? this.upper : this.#far.values;
    this.share = this.#down.share[v]!;
  }

  #fill(line: Line, row: number): void {
    if (line.row === row) return;
    line.row = row;
    const { near, far, share } = this.#across;
    const { data, width } = this.#part;
    const values = line.values;
    const count = near.length;
    const start = row * width;
    for (let u = 0; u < count; u++) {
      const one = (start + near[u]!) * 3;
      const other = (start + far[u]!) * 3;
      const part = share[u]!;
      const rest = 1 - part;
      values[u] = data[one]! * rest + data[other]! * part;
      values[count + u] = data[one + 1]! * rest + data[other + 1]! * part;
      values[2 * count + u] = data[one + 2]! * rest + data[other + 2]! * part;
    }
  }
}

/**
 * {@linkcode interpolate} without rotation, as a graph wants the pixels: shares of 255, channel by channel, black at the
 * right and bottom where the output is smaller than the square. Each source row is interpolated once: the same sums in the
 * same order, several times faster.
 *
 * @param source the picture
 * @param inverse output pixels to pixels of the whole picture, without rotation
 * @param width of the output
 * @param height of the output
 * @param side of the square, `width` and `height` at least
 * @param data what to write the square into, all zeros; an array of its own by default
 * @returns [1, 3, side, side] RGB in 0..1
 *
 * @example
 * ```ts
 * const source = { part: photo, columns: photo.width, rows: photo.height, left: 0, top: 0 };
 * const half = interpolateSquare(source, invertSimilarity([0.5, 0, -0.25, 0, 0.5, -0.25]), 64, 48, 64);
 * ```
 */
export function interpolateSquare(
  source: Source,
  inverse: Similarity,
  width: number,
  height: number,
  side: number,
  data: Float32Array = new Float32Array(3 * side * side),
): FloatTensor {
  const lines = new Lines(source, inverse, width, height);
  for (let v = 0; v < height; v++) {
    lines.goTo(v);
    const { upper, lower, share } = lines;
    const rest = 1 - share;
    for (let channel = 0; channel < 3; channel++) {
      const from = channel * width;
      const to = (channel * side + v) * side;
      for (let u = 0; u < width; u++) {
        data[to + u] = (upper[from + u]! * rest + lower[from + u]! * share + ROUND - ROUND) * UNIT;
      }
    }
  }
  return { data, dims: [1, 3, side, side] };
}

/**
 * The nearest number within bounds.
 *
 * @example
 * ```ts
 * clamp(7, 0, 5); // 5
 * ```
 */
export function clamp(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, value));
}
