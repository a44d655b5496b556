import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/** What the image encoder (CLIP vision) sees in faces. */
export interface ImageFeatures {
  /** f_c, [n, d_v] */
  readonly class_embedding: FloatTensor;
  /** f_v, [n, P, d_v] */
  readonly patch_features: FloatTensor;
}

/**
 * Encodes faces.
 *
 * @param faces [n, 3, S, S] RGB in 0..1, aligned to `faces.image_encoder`
 */
export type ImageEncoder = (faces: FloatTensor) => Promise<ImageFeatures>;

/**
 * Loads a bundle's image encoder.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const features = await (await loadImageEncoder(bundle, { provider: "cpu", threads: 2 }))(faces);
 * ```
 */
export async function loadImageEncoder(bundle: Bundle, settings: SessionSettings): Promise<ImageEncoder> {
  const side = bundle.manifest.faces.image_encoder.input_size;
  const run = await loadGraph(bundle, "image_encoder", settings, {
    inputs: { faces: ["n", 3, side, side] },
    outputs: { class_embedding: ["n", "d_v"], patch_features: ["n", "P", "d_v"] },
  });
  return (faces) => run({ faces });
}
