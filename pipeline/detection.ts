import type { FaceDetector } from "../models/face_detector.ts";
import { type FloatTensor, zeros } from "../models/tensor.ts";
import type { Similarity } from "./geometry.ts";
import type { Photo } from "./photo.ts";
import { roundHalfEven } from "./round_half_even.ts";
import { warpToSquare } from "./warp.ts";

/** Sides of squares are multiples of this. */
const SIDES = 32;

/** A rectangle in photo pixels; the photo's first pixel reaches from 0 to 1. It may reach beyond the photo. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A box that holds a face with confidence `score`, 0..1. */
export interface ScoredBox extends Box {
  readonly score: number;
}

/** `faces.detector` of the manifest. */
export interface DetectorSettings {
  /** side of the square the detector sees */
  readonly input_size: number;
  /** whether it takes smaller squares, too, and enlarges them itself */
  readonly enlarges: boolean;
  readonly score_threshold: number;
  /** of two boxes whose intersection over union is larger, the one with the lower score goes */
  readonly iou_threshold: number;
}

/**
 * Squares that nobody uses, by side: a fresh one is 2 MB, which the system takes a while to give. They are black again,
 * so that nothing of a photo stays.
 */
const blackSquares = new Map<number, FloatTensor>();

/**
 * Finds the faces of a photo.
 *
 * @param photo any size
 * @param detector the bundle's detector
 * @param settings the manifest's
 * @returns boxes, the most confident first; none when there is no face
 *
 * @example
 * ```ts
 * const boxes = await detectFaces(photo, models.faceDetector, manifest.faces.detector);
 * ```
 */
export async function detectFaces(
  photo: Photo,
  detector: FaceDetector,
  settings: DetectorSettings,
): Promise<ScoredBox[]> {
  const { side, scale } = squareFor(photo, settings);
  const { boxes, scores } = await detectInSquare(photo, detector, side, scale);
  const candidates: ScoredBox[] = [];
  scores.data.forEach((score, index) => {
    if (score <= settings.score_threshold) return;
    const [x1, y1, x2, y2] = [...boxes.data.subarray(4 * index, 4 * index + 4)]
      .map((place) => place * side / scale) as [number, number, number, number];
    candidates.push({ x: x1, y: y1, width: x2 - x1, height: y2 - y1, score });
  });
  return suppressOverlaps(candidates, settings.iou_threshold);
}

/**
 * The side of the square that a photo is put in, and by how much it is scaled for that. Nothing is enlarged here that the
 * graph enlarges; there are few sides, for ONNX Runtime plans its memory for each.
 */
function squareFor(
  { width, height }: Photo,
  { input_size, enlarges }: DetectorSettings,
): { side: number; scale: number } {
  const longer = Math.max(width, height);
  return enlarges && longer < input_size
    ? { side: Math.min(input_size, Math.ceil(longer / SIDES) * SIDES), scale: 1 }
    : { side: input_size, scale: input_size / longer };
}

async function detectInSquare(photo: Photo, detector: FaceDetector, side: number, scale: number) {
  const black = blackSquares.get(side) ?? zeros([1, 3, side, side]);
  blackSquares.delete(side);
  try {
    return await detector(fitToSquare(photo, side, scale, black.data));
  } finally {
    black.data.fill(0);
    blackSquares.set(side, black);
  }
}

/**
 * A scaled photo in a square, black at the right and bottom.
 *
 * The photo becomes round(s width) x round(s height) pixels (halves to the even number) by `warp`'s rule, where output
 * pixel u shows the photo at (u + 0.5) / s - 0.5.
 *
 * @param photo the photo
 * @param side of the square, s max(width, height) at least
 * @param scale s; such that the photo fills the square by default
 * @param data what to write the square into, all zeros; an array of its own by default
 * @returns the square as the detector wants it, [1, 3, side, side] RGB in 0..1
 *
 * @example
 * ```ts
 * const square = fitToSquare(photo, 416);
 * ```
 */
export function fitToSquare(
  photo: Photo,
  side: number,
  scale: number = side / Math.max(photo.width, photo.height),
  data?: Float32Array,
): FloatTensor {
  const width = Math.max(1, roundHalfEven(scale * photo.width));
  const height = Math.max(1, roundHalfEven(scale * photo.height));
  return warpToSquare(photo, scaling(scale, 0, 0), width, height, side, data);
}

/**
 * The map that scales by `scale` and takes the photo's point (`left`, `top`) to the output's corner, where points
 * are counted from pixel corners and the map, as every {@linkcode Similarity}, from pixel centres.
 *
 * @example
 * ```ts
 * scaling(2, 0, 0); // [2, 0, 0.5, 0, 2, 0.5]
 * ```
 */
export function scaling(scale: number, left: number, top: number): Similarity {
  const shift = (scale - 1) / 2;
  return [scale, 0, shift - scale * left, 0, scale, shift - scale * top];
}

/**
 * Greedy non-maximum suppression: of boxes that overlap too much, the most confident stays.
 *
 * @param boxes in any order
 * @param iouThreshold 0..1
 * @returns those that stay, the most confident first
 *
 * @example
 * ```ts
 * suppressOverlaps(boxes, 0.3);
 * ```
 */
export function suppressOverlaps(boxes: readonly ScoredBox[], iouThreshold: number): ScoredBox[] {
  const kept: ScoredBox[] = [];
  for (const box of [...boxes].sort((one, other) => other.score - one.score)) {
    if (kept.every((other) => intersectionOverUnion(box, other) <= iouThreshold)) kept.push(box);
  }
  return kept;
}

function intersectionOverUnion(one: Box, other: Box): number {
  const width = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const height = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  if (width <= 0 || height <= 0) return 0;
  const intersection = width * height;
  return intersection / (one.width * one.height + other.width * other.height - intersection);
}
