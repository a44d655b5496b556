import { alignFace, type AlignmentTarget } from "./alignment.ts";
import { eyeDistance, type Face, onlyFace } from "./faces.ts";
import type { Point } from "./geometry.ts";
import type { Photo } from "./photo.ts";
import { type DetectedFace, type FaceReport, PipelineError } from "./protocol.ts";

type Problem = FaceReport["problems"][number];

/**
 * The nose's way from the middle of the eyes along the line through them, over their distance: one photo in fifty of
 * Labeled Faces in the Wild and CelebA is beyond this, which is about 40 degrees of yaw.
 */
const TURNED_AWAY = 0.4;

/**
 * Variance of the Laplacian of a face at the recogniser's size: 99 of 100 photos of those sets are above 18, and all
 * are below 12 once a Gaussian of 2.5 pixels has blurred them.
 */
const BLURRED = 12;

/** Points may be this far outside the photo, in eye distances, before the face counts as cut off... */
const POINT_SLACK = 0.1;

/** ...and the detected box this share of its side: landmarks alone tend to keep inside the picture they are given. */
const BOX_SLACK = 0.15;

/**
 * Says whether a photo will do as a reference, and why not: blocking problems are those `onlyFace` refuses, the rest
 * is advice.
 *
 * @param photo the photo
 * @param faces its faces, the largest first
 * @param target the alignment at which sharpness is measured: `faces.recognizer` of the manifest
 * @returns the report; `usable` only when nothing is wrong at all
 *
 * @example
 * ```ts
 * const report = reportFaces(photo, await findFaces(photo, models, manifest.faces), manifest.faces.recognizer);
 * ```
 */
export function reportFaces(photo: Photo, faces: readonly Face[], target: AlignmentTarget): FaceReport {
  const problems = [...blockingProblem(faces)];
  const [face] = faces;
  if (face !== undefined) problems.push(...advice(photo, face, target));
  return {
    width: photo.width,
    height: photo.height,
    faces: faces.map(describe),
    usable: problems.length === 0,
    problems,
  };
}

function* blockingProblem(faces: readonly Face[]): Generator<Problem> {
  try {
    onlyFace(faces);
  } catch (error) {
    if (!(error instanceof PipelineError)) throw error;
    yield { code: error.code as Problem["code"], message: error.message, blocking: true };
  }
}

function* advice(photo: Photo, face: Face, target: AlignmentTarget): Generator<Problem> {
  if (Math.abs(turn(face)) > TURNED_AWAY) {
    yield {
      code: "face_turned_away",
      message: "The face looks far to the side: a photo from the front keeps the likeness better",
      blocking: false,
    };
  }
  if (isCutOff(face, photo)) {
    yield {
      code: "face_cut_off",
      message: "The face reaches over the photo's edge: a photo of the whole face keeps the likeness better",
      blocking: false,
    };
  }
  if (sharpness(alignFace(photo, face.points, target)) < BLURRED) {
    yield {
      code: "blurred",
      message: "The face is blurred: a sharper photo keeps the likeness better",
      blocking: false,
    };
  }
}

/** The nose's offset from the middle of the eyes along the line through them, in eye distances; 0 from the front. */
function turn({ points: [right, left, nose] }: Face): number {
  const [dx, dy] = [left[0] - right[0], left[1] - right[1]];
  const along = (nose[0] - (right[0] + left[0]) / 2) * dx + (nose[1] - (right[1] + left[1]) / 2) * dy;
  return along / (dx * dx + dy * dy);
}

function isCutOff(face: Face, photo: Photo): boolean {
  const { x, y, width, height } = face.box;
  const boxSlack = BOX_SLACK * Math.max(width, height);
  const pointSlack = POINT_SLACK * eyeDistance(face);
  return isOutside(photo, [x, y], boxSlack) || isOutside(photo, [x + width, y + height], boxSlack) ||
    face.outline.some((point) => isOutside(photo, point, pointSlack));
}

function isOutside({ width, height }: Photo, [x, y]: Point, slack: number): boolean {
  return x < -slack || y < -slack || x > width + slack || y > height + slack;
}

/**
 * Variance of the Laplacian (4 neighbours) of a picture's luma in 0..255, its outer seventh left out, where the
 * background or repeated edge pixels may be.
 *
 * @param face an aligned face
 *
 * @example
 * ```ts
 * sharpness(alignFace(photo, points, manifest.faces.recognizer)) < 12; // blurred
 * ```
 */
export function sharpness(face: Photo): number {
  const margin = Math.round(face.width / 7.5);
  let [count, sum, squares] = [0, 0, 0];
  for (let y = margin + 1; y < face.height - margin - 1; y++) {
    for (let x = margin + 1; x < face.width - margin - 1; x++) {
      const value = luma(face, x - 1, y) + luma(face, x + 1, y) + luma(face, x, y - 1) +
        luma(face, x, y + 1) -
        4 * luma(face, x, y);
      count++;
      sum += value;
      squares += value * value;
    }
  }
  return count === 0 ? 0 : squares / count - (sum / count) ** 2;
}

/** ITU-R BT.601. */
function luma({ data, width }: Photo, x: number, y: number): number {
  const at = (y * width + x) * 3;
  return 0.299 * data[at]! + 0.587 * data[at + 1]! + 0.114 * data[at + 2]!;
}

function describe({ box, points }: Face): DetectedFace {
  const { x, y, width, height, score } = box;
  return { box: { x, y, width, height }, score, landmarks: points };
}
