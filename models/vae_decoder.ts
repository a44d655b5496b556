import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/**
 * Turns latents into pictures.
 *
 * @param latent [b, c, h, w], of unit variance (the scaling factor is inside the graph)
 * @returns [b, 3, H, W] RGB, clamped to 0..1
 */
export type VaeDecoder = (latent: FloatTensor) => Promise<FloatTensor>;

/**
 * Loads a bundle's decoder.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const image = await (await loadVaeDecoder(bundle, { provider: "cpu", threads: 2 }))(latent);
 * ```
 */
export async function loadVaeDecoder(bundle: Bundle, settings: SessionSettings): Promise<VaeDecoder> {
  const { latent: { channels, size }, image_size: side } = bundle.manifest;
  const run = await loadGraph(bundle, "vae_decoder", settings, {
    inputs: { latent: ["b", channels, size, size] },
    outputs: { image: ["b", 3, side, side] },
  });
  return async (latent) => (await run({ latent })).image;
}
