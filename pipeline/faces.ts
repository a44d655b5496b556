import type { FaceModels } from "../models/models.ts";
import type { Manifest } from "../models/manifest.ts";
import { detectFaces, type ScoredBox } from "./detection.ts";
import type { Point } from "./geometry.ts";
import { findLandmarks, type FivePoints, fivePoints } from "./landmarks.ts";
import type { Photo } from "./photo.ts";
import { PipelineError } from "./protocol.ts";

/** More faces than this are not looked at closely; a reference photo shows one. */
const MAX_FACES = 16;

/** A face whose box has less than this share of the largest face's area is taken for background. */
const BACKGROUND_SHARE = 1 / 4;

/**
 * Landmarks that span less than this share of their box (the longer sides) are no face's: of 1,200 detected boxes all
 * faces spanned 0.59 and more, the detector's mistakes, whose points fall into a heap, 0.48 and less.
 */
const LEAST_SPAN = 0.52;

/** Eyes nearer to each other than this, in photo pixels, tell too little about a person. */
export const MIN_EYE_DISTANCE = 24;

/** A face of a photo. */
export interface Face {
  readonly box: ScoredBox;
  /** 68 points in iBUG's order, in photo pixels */
  readonly outline: readonly Point[];
  readonly points: FivePoints;
}

/**
 * Finds the faces of a photo with their landmarks; detections whose landmarks collapse are dropped.
 *
 * @param photo the photo
 * @param models detector and landmarks
 * @param settings `faces` of the manifest
 * @returns the largest faces first, at most 16
 *
 * @example
 * ```ts
 * const faces = await findFaces(photo, models, manifest.faces);
 * ```
 */
export async function findFaces(
  photo: Photo,
  models: Pick<FaceModels, "faceDetector" | "faceLandmarks">,
  settings: Manifest["faces"],
): Promise<Face[]> {
  const boxes = await detectFaces(photo, models.faceDetector, settings.detector);
  boxes.sort((one, other) => area(other) - area(one));
  const faces: Face[] = [];
  // One at a time: every run has the one shape that was warmed.
  for (const box of boxes.slice(0, MAX_FACES)) {
    const outline = await findLandmarks(photo, box, models.faceLandmarks, settings.landmarks);
    if (span(outline) >= LEAST_SPAN * Math.max(box.width, box.height)) {
      faces.push({ box, outline, points: fivePoints(outline) });
    }
  }
  return faces;
}

/** The longer side of the upright rectangle around points. */
function span(points: readonly Point[]): number {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  return Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
}

/**
 * The faces that a photo is of: those not much smaller than its largest. Smaller ones are taken for background.
 *
 * @param faces the largest first
 *
 * @example
 * ```ts
 * const [face, ...others] = prominentFaces(await findFaces(photo, models, manifest.faces));
 * ```
 */
export function prominentFaces(faces: readonly Face[]): Face[] {
  const [largest] = faces;
  if (largest === undefined) return [];
  return faces.filter((face) => area(face.box) >= BACKGROUND_SHARE * area(largest.box));
}

/**
 * The one face of a reference photo.
 *
 * @param faces the largest first
 * @returns the face
 * @throws {PipelineError} `face_not_found`, `multiple_faces` (with `{ faces }`) or `face_too_small` (with
 *   `{ eye_distance, limit }` in pixels)
 *
 * @example
 * ```ts
 * const face = onlyFace(await findFaces(photo, models, manifest.faces));
 * ```
 */
export function onlyFace(faces: readonly Face[]): Face {
  const [face, ...others] = prominentFaces(faces);
  if (face === undefined) {
    throw new PipelineError(
      "face_not_found",
      "No face was found: send a photo that shows one person's face, upright and unobstructed",
    );
  }
  if (others.length > 0) {
    throw new PipelineError(
      "multiple_faces",
      `The photo shows ${others.length + 1} faces: crop it to the one person meant`,
      { faces: others.length + 1 },
    );
  }
  const distance = eyeDistance(face);
  if (distance < MIN_EYE_DISTANCE) {
    throw new PipelineError(
      "face_too_small",
      `The eyes are ${
        distance.toFixed(0)
      } pixels apart, ${MIN_EYE_DISTANCE} are needed: send a larger photo of the face`,
      { eye_distance: Math.round(distance), limit: MIN_EYE_DISTANCE },
    );
  }
  return face;
}

/**
 * How far a face's eyes are apart, in photo pixels.
 *
 * @example
 * ```ts
 * eyeDistance(face) >= MIN_EYE_DISTANCE;
 * ```
 */
export function eyeDistance({ points: [right, left] }: Face): number {
  return Math.hypot(left[0] - right[0], left[1] - right[1]);
}

function area({ width, height }: ScoredBox): number {
  return width * height;
}
