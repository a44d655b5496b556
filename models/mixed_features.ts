import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/** Features of the different reference photos, n of them, a row each. */
export interface ReferenceFeatures {
  /** f_v, [n, P, d_v] */
  readonly patch_features: FloatTensor;
  /** f_c, [n, d_v] */
  readonly class_embedding: FloatTensor;
  /** f_a, [n, d_a] */
  readonly face_embedding: FloatTensor;
}

/** Reference photos and how often each counts among the N of the paper. */
export interface CountedFeatures extends ReferenceFeatures {
  /** [n], each 1 or more, N in all */
  readonly photo_counts: FloatTensor;
}

/** The identity as the diffusion model reads it. */
export interface Identity {
  /** E_r, [1, M, d_r], read by the adapters; M = n P + tokens of f_a */
  readonly identity_tokens: FloatTensor;
  /** logarithm of how many equal tokens each token of E_r stands for, [1, M]; attention adds it to its logits */
  readonly identity_token_bias: FloatTensor;
  /** E_c, [1, d_t], takes the place of the identifier's token embedding */
  readonly identity_embedding: FloatTensor;
}

/** Mixed facial features and textual injection: equations 3 to 6. */
export type MixedFeatures = (features: CountedFeatures) => Promise<Identity>;

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
  const run = await loadGraph(bundle, "mixed_features", settings, {
    inputs: {
      patch_features: ["n", "P", "d_v"],
      class_embedding: ["n", "d_v"],
      face_embedding: ["n", "d_a"],
      photo_counts: ["n"],
    },
    outputs: {
      identity_tokens: [1, "M", "d_r"],
      identity_token_bias: [1, "M"],
      identity_embedding: [1, "d_t"],
    },
  });
  return (features) => run({ ...features });
}
