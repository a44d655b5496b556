import type { FaceLandmarks } from "../models/face_landmarks.ts";
import { type Box, scaling } from "./detection.ts";
import type { Point } from "./geometry.ts";
import type { Photo } from "./photo.ts";
import { warpToSquare } from "./warp.ts";

/** Right eye, left eye, nose, right and left mouth corner; right and left are the person's own. */
export type FivePoints = readonly [Point, Point, Point, Point, Point];

/** `faces.landmarks` of the manifest. */
export interface LandmarkSettings {
  readonly input_size: number;
  /** side of the crop over the longer side of the detected box */
  readonly margin: number;
}

/**
 * Finds the 68 points of one face (iBUG's order).
 *
 * The graph sees the box made square about its centre (side = longer side times margin), scaled by `warp`'s rule,
 * edge pixels repeated where it reaches beyond the photo.
 *
 * @param photo the photo
 * @param box the detected face
 * @param landmarks the bundle's landmark graph
 * @param settings the manifest's
 * @returns 68 points
 *
 * @example
 * ```ts
 * const points = await findLandmarks(photo, box, models.faceLandmarks, manifest.faces.landmarks);
 * ```
 */
export async function findLandmarks(
  photo: Photo,
  box: Box,
  landmarks: FaceLandmarks,
  settings: LandmarkSettings,
): Promise<Point[]> {
  const side = Math.max(box.width, box.height) * settings.margin;
  const left = box.x + (box.width - side) / 2;
  const top = box.y + (box.height - side) / 2;
  const size = settings.input_size;
  const { data } = await landmarks(warpToSquare(photo, scaling(size / side, left, top), size, size, size));
  return Array.from({ length: 68 }, (_, index) => [
    left + data[2 * index]! * side - 0.5,
    top + data[2 * index + 1]! * side - 0.5,
  ]);
}

/**
 * The five points that alignment uses, from the 68.
 *
 * @param points 68 points in iBUG's order
 * @returns means of points 36..41 and 42..47, then points 30, 48 and 54
 *
 * @example
 * ```ts
 * const [rightEye, leftEye] = fivePoints(points);
 * ```
 */
export function fivePoints(points: readonly Point[]): FivePoints {
  if (points.length !== 68) throw new RangeError(`${points.length} points, expected 68`);
  return [mean(points.slice(36, 42)), mean(points.slice(42, 48)), points[30]!, points[48]!, points[54]!];
}

/**
 * Five points somewhere else.
 *
 * @param points the five
 * @param to where one goes
 *
 * @example
 * ```ts
 * const inCrop = mapFivePoints(points, (point) => applySimilarity(transform, point));
 * ```
 */
export function mapFivePoints(
  [right, left, nose, rightMouth, leftMouth]: FivePoints,
  to: (point: Point) => Point,
): FivePoints {
  return [to(right), to(left), to(nose), to(rightMouth), to(leftMouth)];
}

function mean(points: readonly Point[]): Point {
  const sum = points.reduce<Point>(([x, y], [px, py]) => [x + px, y + py], [0, 0]);
  return [sum[0] / points.length, sum[1] / points.length];
}
