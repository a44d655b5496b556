import type { FaceModels } from "../models/models.ts";
import type { Manifest } from "../models/manifest.ts";
import { alignFace } from "./alignment.ts";
import { findFaces } from "./faces.ts";
import type { Photo } from "./photo.ts";
import { toTensor } from "./warp.ts";

/**
 * How much a portrait's face is the references': ID-Sim of the paper, by the bundle's own recogniser.
 *
 * @param portrait the finished picture; its largest face counts
 * @param reference mean f_a of the references, [d_a]
 * @param models the graphs that look at photos
 * @param settings `faces` of the manifest
 * @returns cosine, -1..1, or null when the portrait shows no face
 *
 * @example
 * ```ts
 * const similarity = await identitySimilarity(portrait, person.face_embedding.data, models, manifest.faces);
 * ```
 */
export async function identitySimilarity(
  portrait: Photo,
  reference: Float32Array,
  models: FaceModels,
  settings: Manifest["faces"],
): Promise<number | null> {
  const [face] = await findFaces(portrait, models, settings);
  if (face === undefined) return null;
  const aligned = toTensor([alignFace(portrait, face.points, settings.recognizer)]);
  return cosine((await models.faceRecognizer(aligned)).data, reference);
}

/**
 * Cosine of the angle between two vectors.
 *
 * @returns -1..1; 0 when one of them is all zeros
 * @throws {RangeError} when their lengths differ
 *
 * @example
 * ```ts
 * cosine(new Float32Array([1, 0]), new Float32Array([1, 1])); // 0.7071
 * ```
 */
export function cosine(one: Float32Array, other: Float32Array): number {
  if (one.length !== other.length) {
    throw new RangeError(`vectors of ${one.length} and ${other.length} numbers`);
  }
  let [dot, square, otherSquare] = [0, 0, 0];
  for (let index = 0; index < one.length; index++) {
    dot += one[index]! * other[index]!;
    square += one[index]! ** 2;
    otherSquare += other[index]! ** 2;
  }
  if (square === 0 || otherSquare === 0) return 0;
  return Math.max(-1, Math.min(1, dot / Math.sqrt(square * otherSquare)));
}
