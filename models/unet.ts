import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/** One denoising step of `b` latents. */
export interface UnetInput {
  /** z_t, [b, c, h, w] */
  readonly sample: FloatTensor;
  /** t, [b] */
  readonly timestep: FloatTensor;
  /** C, [b, L, d_t] */
  readonly encoder_hidden_states: FloatTensor;
  /** E_r, [b, M, d_r] */
  readonly identity_tokens: FloatTensor;
  /** what attention adds to each token's logits, [b, M]: see `Identity` */
  readonly identity_token_bias: FloatTensor;
  /** beta of equation 7, [b] */
  readonly identity_strength: FloatTensor;
}

/**
 * Predicts noise or velocity, as the scheduler's config says.
 *
 * @returns [b, c, h, w]
 */
export type Unet = (input: UnetInput) => Promise<FloatTensor>;

/**
 * Loads a bundle's UNet with its adapters.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const prediction = await (await loadUnet(bundle, { provider: "cpu", threads: 2 }))(input);
 * ```
 */
export async function loadUnet(bundle: Bundle, settings: SessionSettings): Promise<Unet> {
  const { channels, size } = bundle.manifest.latent;
  const run = await loadGraph(bundle, "unet", settings, {
    inputs: {
      sample: ["b", channels, size, size],
      timestep: ["b"],
      encoder_hidden_states: ["b", "L", "d_t"],
      identity_tokens: ["b", "M", "d_r"],
      identity_token_bias: ["b", "M"],
      identity_strength: ["b"],
    },
    outputs: { prediction: ["b", channels, size, size] },
  });
  return async (input) => (await run({ ...input })).prediction;
}
