import sharp from "sharp";
import type { VaeDecoder } from "../models/vae_decoder.ts";
import type { DraftStep } from "./denoise.ts";
import { markAsSynthetic, toPicture } from "./encode_image.ts";
import type { Photo } from "./photo.ts";
import type { GeneratePreview } from "./protocol.ts";
import type { NoiseLevels } from "./schedulers/noise_levels.ts";

/** A preview has a quarter of the portrait's pixels... */
const SHRINK = 2;

/** ...and at most this many a side. */
const MOST_PIXELS = 256;

/**
 * Decodes what a step takes the finished picture to be. Runs a graph: a stage of its own.
 *
 * @param step what a denoising step saw
 * @param latentDims [c, h, w]
 * @param noiseLevels the bundle's
 * @param vaeDecoder the bundle's
 *
 * @example
 * ```ts
 * const picture = await decodePreview(step, draft.latentDims, pipeline.noiseLevels, models.vaeDecoder);
 * ```
 */
export async function decodePreview(
  step: DraftStep,
  latentDims: readonly number[],
  noiseLevels: NoiseLevels,
  vaeDecoder: VaeDecoder,
): Promise<Photo> {
  return toPicture(await vaeDecoder({ data: noiseLevels.predictClean(step), dims: [1, ...latentDims] }));
}

/** An encoded preview. */
export type EncodedPreview = Pick<GeneratePreview, "contentType" | "width" | "height" | "data">;

/**
 * Shrinks and encodes a preview, marked as synthetic like every picture.
 *
 * @param picture in full size
 * @returns a JPEG of half the side, at most 256 pixels
 *
 * @example
 * ```ts
 * const { data, width } = await encodePreview(picture);
 * ```
 */
export async function encodePreview(picture: Photo): Promise<EncodedPreview> {
  const { width, height, data } = picture;
  const side = Math.min(Math.ceil(Math.max(width, height) / SHRINK), MOST_PIXELS);
  const small = markAsSynthetic(sharp(data, { raw: { width, height, channels: 3 } }))
    .resize(side, side, { fit: "inside" }).jpeg({ quality: 80 });
  const encoded = await small.toBuffer({ resolveWithObject: true });
  const { info } = encoded;
  return {
    contentType: "image/jpeg",
    width: info.width,
    height: info.height,
    data: new Uint8Array(encoded.data),
  };
}
