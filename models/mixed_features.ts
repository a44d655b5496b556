import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/** Features of the N reference photos, a row each. */
export interface ReferenceFeatures {
  /** f_v, [N, P, d_v] */
  readonly patch_features: FloatTensor;
  /** f_c, [N, d_v] */
  readonly class_embedding: FloatTensor;
  /** f_a, [N, d_a] */
  readonly face_embedding: FloatTensor;
}

/** The identity as the diffusion model reads it. */
export interface Identity {
  /** E_r, [1, M, d_r], read by the adapters */
  readonly identity_tokens: FloatTensor;
  /** E_c, [1, d_t], takes the place of the identifier's token embedding */
  readonly identity_embedding: FloatTensor;
}

/** Mixed facial features and textual injection: equations 3 to 6. */
export type MixedFeatures = (features: ReferenceFeatures) => Promise<Identity>;

/**
 * Loads a bundle's mixed facial features (MFF) and its textual projection.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const mix = await loadMixedFeatures(bundle, { provider: "cpu", threads: 2 });
 * const { identity_tokens, identity_embedding } = await mix(features);
 * ```
 */
export async function loadMixedFeatures(bundle: Bundle, settings: SessionSettings): Promise<MixedFeatures> {
  const { max_reference_images: n, identity_token_count: tokens } = bundle.manifest;
  const run = await loadGraph(bundle, "mixed_features", settings, {
    inputs: { patch_features: [n, "P", "d_v"], class_embedding: [n, "d_v"], face_embedding: [n, "d_a"] },
    outputs: { identity_tokens: [1, tokens, "d_r"], identity_embedding: [1, "d_t"] },
  });
  return (features) => run({ ...features });
}
