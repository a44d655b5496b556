import { type Point, similarityTransform } from "./geometry.ts";
import type { FivePoints } from "./landmarks.ts";
import type { Photo } from "./photo.ts";
import { warp } from "./warp.ts";

/** Where a graph wants the five points: `faces.recognizer`, `faces.image_encoder`, `faces.portrait` of the manifest. */
export interface AlignmentTarget {
  /** side of the square in pixels */
  readonly input_size: number;
  /** right eye, left eye, nose, right and left mouth corner in pixels of that square */
  readonly template: readonly Point[];
}

/**
 * A face warped so that its five points stand as near as possible at a graph's template.
 *
 * The rule is that of `align_face` in training/idadapter/data/alignment.py: Umeyama's least-squares similarity,
 * then `warp`.
 *
 * @param photo the photo
 * @param points the face's five points in photo pixels
 * @param target size and template
 * @returns a square picture of `input_size`
 * @throws {RangeError} when all points coincide
 *
 * @example
 * ```ts
 * const face = alignFace(photo, points, manifest.faces.recognizer);
 * ```
 */
export function alignFace(photo: Photo, points: FivePoints, target: AlignmentTarget): Photo {
  return warp(photo, similarityTransform(points, target.template), target.input_size);
}
