/** Other views of one photo: heads turned a little, by a head's depth as it is on average. */

import { applySimilarity, invertSimilarity, type Point, similarityTransform } from "./geometry.ts";
import { clamp } from "./interpolate.ts";
import { type FivePoints, mapFivePoints } from "./landmarks.ts";
import type { Photo } from "./photo.ts";

/**
 * Where a head looks and how its points move when it turns: the numbers of training/idadapter/data/turned_heads.py, in
 * eyes' distances of an aligned face.
 */
const HEAD = {
  /** how far the front of the face stands before the axis that heads turn around */
  depth: 1.2,
  /** how far from that axis, to either side, depth ends */
  halfWidth: 1.75,
  /** how far the nose stands out of that front, where a photo shows it so */
  noseDepth: 0.42,
  /** standard deviations of the nose's bump, across and along it */
  noseSpread: [0.2, 0.34],
  /** how far the nose's tip stands before the eyes */
  tipDepth: 0.6,
} as const;

/** Radians; beyond it a cheek would have to show what no photo has seen. */
const LARGEST_TURN = 35 * Math.PI / 180;

/** Where a head looks that looks to a side, radians. */
export const SIDE_VIEW = { left: -20 * Math.PI / 180, right: 20 * Math.PI / 180 } as const;

/** Radians; what looks less far to a side hardly passes for a view to that side. */
const LEAST_VIEW = 12 * Math.PI / 180;

/** Pixels between two places for which the way back is looked for. */
const GRID = 4;

/** Rounds of that search; each comes nearer. */
const ROUNDS = 8;

/** How far a turned face looks turned to a network that tells head pose, of how far it was. */
const APPARENT = 4 / 7;

/** The fractional part of the golden ratio, whose multiples lie evenly between whole numbers. */
const GOLDEN = 0.6180339887498949;

/** The power of a share of the largest turn that is taken: the smaller, the fewer heads turn little. */
const SPREAD = 2 / 3;

/** A head's turn: by radians from where it looks, or to where it is to look, positive towards the picture's right. */
export type HeadTurn = { readonly by: number } | { readonly to: number };

/**
 * By how much a picture's reference turns. Neighbours among seeds, which pictures of one request have, are far apart
 * (Kronecker's sequence of the golden ratio, on half a circle and drawn outwards: most turn far, one in eight by less than a
 * third of the largest turn).
 *
 * @param seed of the picture, 0 to 2^32
 * @param variation how far heads are to look turned at most, degrees
 * @returns radians, positive towards the picture's right; seed 0 does not turn
 *
 * @example
 * ```ts
 * const turns = [0, 1, 2].map((index) => turnOfSeed(42 + index, 20));
 * ```
 */
export function turnOfSeed(seed: number, variation: number): number {
  const place = 0.5 + seed * GOLDEN;
  const share = Math.sin(Math.PI * (place - Math.floor(place) - 0.5));
  return Math.sign(share) * Math.abs(share) ** SPREAD * variation / APPARENT * Math.PI / 180;
}

/**
 * A face as if its head had been turned, aligned again: `turned_head` of training/idadapter/data/turned_heads.py, pixel by
 * pixel. What is turned by an angle and would look further aside than a photo can show is turned the other way; what is
 * turned to a view is turned as far as a photo can show, and its mirror image is where the head looks too far to the other
 * side to come there.
 *
 * Every pixel moves across as a point of its depth does when the head turns. Good enough to be a reference, whose features
 * are then found at another place; too rough to be a portrait.
 *
 * @param picture a square with the face aligned to the template, and so many pixels more on each side
 * @param margin how many
 * @param landmarks where its five points are, pixels of the square within the margins
 * @param turn by how much, or where to
 * @param template where faces stand in that square
 * @returns the square, without margins
 * @throws {RangeError} when the landmarks coincide
 *
 * @example
 * ```ts
 * const turned = turnHead(face, 0, landmarks, { by: Math.PI / 9 }, manifest.faces.image_encoder.template);
 * ```
 */
export function turnHead(
  picture: Photo,
  margin: number,
  landmarks: FivePoints,
  turn: HeadTurn,
  template: readonly Point[],
): Photo {
  const size = picture.width - 2 * margin;
  const yaw = yawOf(landmarks);
  if ("to" in turn && Math.sign(turn.to) * yaw + APPARENT * LARGEST_TURN < LEAST_VIEW) {
    return turnHead(mirrorPhoto(picture), margin, mirrorPoints(landmarks, size), turn, template);
  }
  const asked = "to" in turn
    ? (turn.to - yaw) / APPARENT
    : Math.abs(yaw + turn.by) <= LARGEST_TURN
    ? turn.by
    : -Math.sign(yaw) * Math.abs(turn.by);
  const angle = clamp(asked, -LARGEST_TURN, LARGEST_TURN);
  const head = new TurnedHead(landmarks, angle, yaw, size, template);
  const points = mapFivePoints(landmarks, ([x, y]) => [head.moved(x, y), y]);
  const back = invertSimilarity(similarityTransform(points, template));

  const columns = Math.floor((size - 2 + GRID) / GRID) + 1;
  const nodes = new Float64Array(columns * columns);
  for (let row = 0, at = 0; row < columns; row++) {
    for (let column = 0; column < columns; column++) {
      const [x, y] = applySimilarity(back, [column * GRID, row * GRID]);
      nodes[at++] = head.source(x, y);
    }
  }
  const across = new Float64Array(columns);
  const data = new Uint8Array(size * size * 3);
  for (let v = 0, at = 0; v < size; v++) {
    interpolateRow(nodes, v / GRID, across);
    for (let u = 0; u < size; u++, at += 3) {
      const node = Math.floor(u / GRID);
      const share = u / GRID - node;
      const x = share === 0 ? across[node]! : across[node]! * (1 - share) + across[node + 1]! * share;
      const y = back[3] * u + back[4] * v + back[5];
      sample(picture, x + margin, y + margin, data, at);
    }
  }
  return { width: size, height: size, data };
}

function mirrorPhoto({ data, width, height }: Photo): Photo {
  const mirrored = new Uint8Array(data.length);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const from = (row * width + width - 1 - column) * 3;
      mirrored.set(data.subarray(from, from + 3), (row * width + column) * 3);
    }
  }
  return { width, height, data: mirrored };
}

/** The person's right becomes their left. */
function mirrorPoints(points: FivePoints, size: number): FivePoints {
  const [right, left, nose, mouthRight, mouthLeft] = mapFivePoints(points, ([x, y]) => [size - 1 - x, y]);
  return [left, right, nose, mouthLeft, mouthRight];
}

/** Radians, positive towards the picture's right; a rough guess of five landmarks. */
function yawOf([right, left, nose]: FivePoints): number {
  const [acrossX, acrossY] = [left[0] - right[0], left[1] - right[1]];
  const [x, y] = [nose[0] - (right[0] + left[0]) / 2, nose[1] - (right[1] + left[1]) / 2];
  const offset = (x * acrossX + y * acrossY) / (acrossX ** 2 + acrossY ** 2);
  return Math.atan(offset / HEAD.tipDepth);
}

/** How points of a face move when its head turns. */
class TurnedHead {
  readonly #size: number;
  readonly #unit: number;
  readonly #axis: number;
  readonly #nose: Point;
  readonly #noseDepth: number;
  readonly #sine: number;
  readonly #versine: number;

  constructor(landmarks: FivePoints, angle: number, yaw: number, size: number, template: readonly Point[]) {
    const [right, left] = template as [Point, Point];
    this.#size = size;
    this.#unit = Math.hypot(left[0] - right[0], left[1] - right[1]);
    this.#axis = (size - 1) / 2 - HEAD.depth * this.#unit * Math.sin(yaw);
    this.#nose = landmarks[2];
    // in profile, background is beside the nose
    this.#noseDepth = HEAD.noseDepth * Math.max(0, 1 - (yaw / LARGEST_TURN) ** 2);
    this.#sine = Math.sin(angle);
    this.#versine = 1 - Math.cos(angle);
  }

  /** Where a point is after the turn, across. */
  moved(x: number, y: number): number {
    const across = (x - this.#axis) / this.#unit;
    // a skull is round upwards too, and shoulders stay
    const height = clamp(1.25 - Math.abs(y - 0.52 * this.#size) / (0.62 * this.#size), 0, 1);
    const front = HEAD.depth * Math.cos(clamp(across / HEAD.halfWidth, -1, 1) * (Math.PI / 2)) * height;
    const [spreadX, spreadY] = HEAD.noseSpread;
    const bump = ((x - this.#nose[0]) / (spreadX * this.#unit)) ** 2 +
      ((y - this.#nose[1]) / (spreadY * this.#unit)) ** 2;
    const depth = front + this.#noseDepth * Math.exp(-bump / 2);
    const inside = depth / (HEAD.depth + this.#noseDepth);
    return x + this.#unit * (depth * this.#sine - inside * across * this.#versine);
  }

  /** What point is there after the turn, across: the way back, which has no formula. */
  source(x: number, y: number): number {
    let source = x;
    for (let round = 0; round < ROUNDS; round++) source += x - this.moved(source, y);
    return source;
  }
}

/** Linear between two rows of square `nodes`, at `row` counted in them. */
function interpolateRow(nodes: Float64Array, row: number, into: Float64Array): void {
  const columns = into.length;
  const upper = Math.floor(row);
  const share = row - upper;
  const lower = Math.min(upper + 1, columns - 1);
  for (let column = 0; column < columns; column++) {
    into[column] = nodes[upper * columns + column]! * (1 - share) + nodes[lower * columns + column]! * share;
  }
}

/** Writes the bilinear colour at a place; beyond the edge the picture is mirrored there, the edge itself once. */
function sample({ data, width, height }: Photo, x: number, y: number, into: Uint8Array, at: number): void {
  const column = Math.floor(x);
  const row = Math.floor(y);
  const shareX = x - column;
  const shareY = y - row;
  const left = mirrored(column, width) * 3;
  const right = mirrored(column + 1, width) * 3;
  const upper = mirrored(row, height) * width * 3;
  const lower = mirrored(row + 1, height) * width * 3;
  for (let channel = 0; channel < 3; channel++) {
    const above = data[upper + left + channel]! * (1 - shareX) + data[upper + right + channel]! * shareX;
    const below = data[lower + left + channel]! * (1 - shareX) + data[lower + right + channel]! * shareX;
    into[at + channel] = Math.floor(above * (1 - shareY) + below * shareY + 0.5);
  }
}

function mirrored(place: number, length: number): number {
  if (place >= 0 && place < length) return place;
  const period = 2 * (length - 1);
  const within = ((place % period) + period) % period;
  return within < length ? within : period - within;
}
