import sharp from "sharp";
import type { VaeDecoder } from "../models/vae_decoder.ts";
import type { DraftStep } from "./denoise.ts";
import { markAsSynthetic, toPicture } from "./encode_image.ts";
import type { Photo } from "./photo.ts";
import type { GeneratePreview } from "./protocol.ts";
import { computePositiveAlphasCumprod } from "./schedulers/noise_schedule.ts";
import type { SchedulerConfig } from "./schedulers/scheduler_config.ts";

/** A preview has a quarter of the portrait's pixels... */
const SHRINK = 2;

/** ...and at most this many a side. */
const MOST_PIXELS = 256;

/**
 * What a step takes the finished latent to be: z_0 as predicted from z_t (equations 12 and 16 of DDIM for epsilon,
 * Salimans & Ho 2022, appendix D, for v).
 *
 * @param step what a denoising step saw; its input is scaled to variance 1, as every scheduler gives it to the UNet
 * @param config the bundle's noise schedule
 * @returns the latent, of the input's length
 *
 * @example
 * ```ts
 * const latent = { data: predictClean(step, pipeline.schedulerConfig), dims: [1, channels, size, size] };
 * ```
 */
export function predictClean(
  { timestep, input, prediction }: DraftStep,
  config: SchedulerConfig,
): Float32Array<ArrayBuffer> {
  const alphasCumprod = computePositiveAlphasCumprod(config);
  const kept = alphasCumprod[Math.min(Math.max(Math.round(timestep), 0), alphasCumprod.length - 1)]!;
  const [alpha, sigma] = [Math.sqrt(kept), Math.sqrt(1 - kept)];
  const velocity = config.prediction_type === "v_prediction";
  return Float32Array.from(
    input,
    (noisy, i) =>
      velocity ? alpha * noisy - sigma * prediction[i]! : (noisy - sigma * prediction[i]!) / alpha,
  );
}

/**
 * Decodes what a step takes the finished picture to be. Runs a graph: a stage of its own.
 *
 * @param step what a denoising step saw
 * @param latentDims [c, h, w]
 * @param config the bundle's noise schedule
 * @param vaeDecoder the bundle's
 *
 * @example
 * ```ts
 * const picture = await decodePreview(step, draft.latentDims, pipeline.schedulerConfig, models.vaeDecoder);
 * ```
 */
export async function decodePreview(
  step: DraftStep,
  latentDims: readonly number[],
  config: SchedulerConfig,
  vaeDecoder: VaeDecoder,
): Promise<Photo> {
  return toPicture(await vaeDecoder({ data: predictClean(step, config), dims: [1, ...latentDims] }));
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
