import { BundleError } from "../models/bundle_error.ts";
import type { Manifest } from "../models/manifest.ts";
import type { CountedFeatures, Identity, ReferenceFeatures } from "../models/mixed_features.ts";
import type { Models } from "../models/models.ts";
import { concatRows, type FloatTensor } from "../models/tensor.ts";
import { alignFace, type AlignmentTarget } from "./alignment.ts";
import { findFaces, onlyFace } from "./faces.ts";
import { applySimilarity, similarityTransform } from "./geometry.ts";
import { type FivePoints, mapFivePoints } from "./landmarks.ts";
import { type Photo, withPhoto } from "./photo.ts";
import { PipelineError } from "./protocol.ts";
import { type HeadTurn, turnHead } from "./turned_head.ts";
import { toTensor } from "./warp.ts";

/** Who the portraits are to show. */
export interface ReferencePerson {
  /** E_r and E_c for every turn asked for, in their order; a turn asked for twice, as one object, is read once */
  readonly identities: readonly Identity[];
  /** mean of the photos' f_a, [1, d_a], not normalised; what a portrait's likeness is measured against */
  readonly face_embedding: FloatTensor;
}

/** How the words have the photos read. */
export interface AskedOfReferences {
  /** how heads are turned before their patches are read (`turnHead`), for each picture to be made; one, not at all, by default */
  readonly turns?: readonly HeadTurn[];
  /** places that the words tell of, and that are theirs rather than the photos'; none by default */
  readonly quiet?: Manifest["quiet_patches"];
}

/** Runs a stage when the thread is free for it. */
export type TakeTurn = <T>(stage: () => Promise<T>) => Promise<T>;

/** The graphs that read reference photos. */
export type ReferenceModels = Pick<
  Models,
  "faceDetector" | "faceLandmarks" | "faceRecognizer" | "imageEncoder" | "mixedFeatures"
>;

/**
 * Reads reference photos: decode, find the one face, align, encode, mix (equations 3 to 6).
 *
 * The method takes N photos; fewer are repeated in turn up to N (one photo N times, as in the paper; of three and N = 4
 * the first twice), which the graphs are told as a count a photo.
 *
 * @param photos encoded photos of one person, 1 to N
 * @param models the graphs
 * @param manifest the bundle's
 * @param asked what the words have of the photos
 * @param takeTurn how each photo, each further view of it, and then their mixing, get the thread; decoding files needs none
 * @returns E_r and E_c for each of the turns, and the mean face embedding
 * @throws {PipelineError} `too_many_reference_images`, or what is wrong with a photo; `details.image` is its index
 *
 * @example
 * ```ts
 * const person = await readReferences([await Deno.readFile("portrait.jpg")], models, manifest);
 * ```
 */
export async function readReferences(
  photos: readonly Uint8Array[],
  models: ReferenceModels,
  manifest: Manifest,
  { turns = [{ by: 0 }], quiet = [] }: AskedOfReferences = {},
  takeTurn: TakeTurn = (stage) => stage(),
): Promise<ReferencePerson> {
  const limit = manifest.max_reference_images;
  if (photos.length > limit) {
    throw new PipelineError(
      "too_many_reference_images",
      `${photos.length} reference images were sent, this model takes at most ${limit}`,
      { images: photos.length, limit },
    );
  }
  if (photos.length === 0) {
    throw new PipelineError(
      "face_not_found",
      "No reference image was sent: send a photo of one person's face",
    );
  }
  const different = [...new Set(turns)];
  const views: ReferenceFeatures[][] = [];
  for (const [index, bytes] of photos.entries()) {
    const [first, ...others] = different as [HeadTurn, ...HeadTurn[]];
    const find = async (photo: Photo) => {
      const found = await findReference(photo, different, models, manifest);
      return { face: found, features: [await encodeFace(found, first, models, manifest)] };
    };
    // what is cut out of the photo is all that further views need: it does not stay with them
    const see = (photo: Photo) => takeTurn(() => find(photo));
    const { face, features } = await withPhoto(bytes, see).catch(naming(index));
    for (const turn of others) {
      features.push(await takeTurn(() => encodeFace(face, turn, models, manifest)).catch(naming(index)));
    }
    views.push(features);
  }
  const mixed: Identity[] = [];
  for (const index of different.keys()) {
    const rows = views.map((features) => features[index]!);
    const identity = await takeTurn(() => models.mixedFeatures(countReferences(limit, rows)));
    mixed.push(quietPatches(identity, rows, quiet));
  }
  return {
    identities: turns.map((turn) => mixed[different.indexOf(turn)]!),
    face_embedding: meanRow(views.map(([first]) => first!.face_embedding)),
  };
}

/** The one face of a reference photo. */
interface ReferenceFace {
  /** f_a, [1, d_a] */
  readonly embedding: FloatTensor;
  /** aligned for the image encoder, where it is asked for as it is */
  readonly picture: Photo | undefined;
  /** the same with a margin, of which a turned head shows some, where one is asked for */
  readonly surroundings: Photo | undefined;
  /** where its five points are in that picture */
  readonly landmarks: FivePoints;
}

async function findReference(
  photo: Photo,
  turns: readonly HeadTurn[],
  models: ReferenceModels,
  { faces }: Manifest,
): Promise<ReferenceFace> {
  const { points } = onlyFace(await findFaces(photo, models, faces));
  const transform = similarityTransform(points, faces.image_encoder.template);
  const aligned = (target: AlignmentTarget) => alignFace(photo, points, target);
  return {
    embedding: await models.faceRecognizer(toTensor([aligned(faces.recognizer)])),
    picture: turns.some(isStill) ? aligned(faces.image_encoder) : undefined,
    surroundings: turns.every(isStill) ? undefined : aligned(widened(faces.image_encoder)),
    landmarks: mapFivePoints(points, (point) => applySimilarity(transform, point)),
  };
}

function isStill(turn: HeadTurn): boolean {
  return "by" in turn && turn.by === 0;
}

/** Pixels on each side that a turned head needs beyond an aligned face of a size. */
function marginOf(size: number): number {
  return Math.floor(size / 4);
}

function widened({ input_size: size, template }: AlignmentTarget): AlignmentTarget {
  const margin = marginOf(size);
  return { input_size: size + 2 * margin, template: template.map(([x, y]) => [x + margin, y + margin]) };
}

/** f_v and f_c of a face whose head is turned, and f_a as it is, a row each. */
async function encodeFace(
  { embedding, picture, surroundings, landmarks }: ReferenceFace,
  turn: HeadTurn,
  models: ReferenceModels,
  { faces }: Manifest,
): Promise<ReferenceFeatures> {
  const { input_size: size, template } = faces.image_encoder;
  const seen = isStill(turn) ? picture! : turnHead(surroundings!, marginOf(size), landmarks, turn, template);
  return { ...await models.imageEncoder(toTensor([seen])), face_embedding: embedding };
}

/**
 * The features of k photos, and how often each counts when they are repeated in turn up to `count`: photos that count
 * twice cost no more than others (docs/architecture.md, "One photo, N copies").
 *
 * @param count N of the paper
 * @param rows features of one photo each, 1 to N of them
 *
 * @example
 * ```ts
 * const identity = await models.mixedFeatures(countReferences(manifest.max_reference_images, [features]));
 * ```
 */
export function countReferences(count: number, rows: readonly ReferenceFeatures[]): CountedFeatures {
  const counts = rows.map((_, index) => Math.floor((count - 1 - index) / rows.length) + 1);
  return {
    patch_features: concatRows(rows.map((row) => row.patch_features)),
    class_embedding: concatRows(rows.map((row) => row.class_embedding)),
    face_embedding: concatRows(rows.map((row) => row.face_embedding)),
    photo_counts: { data: Float32Array.from(counts), dims: [rows.length] },
  };
}

/**
 * The same person, of whom the adapters see less in some places: patches tell where everything is, a mouth or hair too,
 * and portraits would have it so whatever the words say.
 *
 * @param identity of the photos' features
 * @param rows features of one photo each, which `identity` was mixed from
 * @param places of the manifest's `quiet_patches`; the identity itself comes back where there are none
 * @throws {BundleError} one names a patch that there is not
 *
 * @example
 * ```ts
 * const places = toldPlaces(prompt, manifest.quiet_patches);
 * const identity = quietPatches(await models.mixedFeatures(counted), rows, places);
 * ```
 */
export function quietPatches(
  identity: Identity,
  rows: readonly ReferenceFeatures[],
  places: Manifest["quiet_patches"],
): Identity {
  if (places.length === 0) return identity;
  const { data, dims } = identity.identity_token_bias;
  const count = rows[0]!.patch_features.dims[1]!;
  const bias = Float32Array.from(data);
  const faceTokens = bias.length - rows.length * count;
  checkQuietPatches(places, count);
  for (const { patches, bias: less } of places) {
    for (const index of rows.keys()) {
      for (const patch of patches) bias[faceTokens + index * count + patch]! += less;
    }
  }
  return { ...identity, identity_token_bias: { data: bias, dims } };
}

/**
 * Checks that there are the patches that a manifest names.
 *
 * @param places its `quiet_patches`
 * @param count P, of the image encoder
 * @throws {BundleError} `manifest_invalid` when one is not there
 *
 * @example
 * ```ts
 * checkQuietPatches(manifest.quiet_patches, features.patch_features.dims[1]!);
 * ```
 */
export function checkQuietPatches(places: Manifest["quiet_patches"], count: number): void {
  const beyond = places.flatMap(({ patches }) => patches).find((patch) => patch >= count);
  if (beyond !== undefined) {
    throw new BundleError(
      "manifest_invalid",
      `quiet_patches of bundle.json names patch ${beyond}, and the image encoder has ${count} of them, from 0: ` +
        "export the bundle again",
    );
  }
}

function meanRow(rows: readonly FloatTensor[]): FloatTensor {
  const length = rows[0]!.data.length;
  const mean = new Float32Array(length);
  for (const { data } of rows) data.forEach((value, index) => mean[index]! += value / rows.length);
  return { data: mean, dims: [1, length] };
}

/** Rethrows with the photo's index among the details, so that a caller knows which of several to replace. */
function naming(image: number): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof PipelineError)) throw error;
    if (!isAboutPhoto(error)) throw error;
    throw new PipelineError(error.code, error.message, { ...error.details, image });
  };
}

/** Cancellation may come while a photo waits for its turn, and is not the photo's fault. */
function isAboutPhoto({ code }: PipelineError): boolean {
  return code.startsWith("image_") || code.includes("face");
}
