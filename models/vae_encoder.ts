import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/**
 * Turns pictures into latents. Generating from noise does not need it, so the service does not load it.
 *
 * @param image [b, 3, H, W] RGB in 0..1
 * @returns [b, c, h, w], scaled to unit variance
 */
export type VaeEncoder = (image: FloatTensor) => Promise<FloatTensor>;

/**
 * Loads a bundle's encoder.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const latent = await (await loadVaeEncoder(bundle, { provider: "cpu", threads: 2 }))(image);
 * ```
 */
export async function loadVaeEncoder(bundle: Bundle, settings: SessionSettings): Promise<VaeEncoder> {
  const { latent: { channels, size }, image_size: side } = bundle.manifest;
  const run = await loadGraph(bundle, "vae_encoder", settings, {
    inputs: { image: ["b", 3, side, side] },
    outputs: { latent: ["b", channels, size, size] },
  });
  return async (image) => (await run({ image })).latent;
}
