import { BundleError } from "./bundle_error.ts";
import { type OpenGraph, openGraph } from "./graph.ts";
import { graphPath } from "./graph_variant.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";
import { filesOfGraph, verifyBundle } from "./verify_bundle.ts";

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

/** What a step gives, and what the next ones may go on from. */
export interface UnetOutput {
  /** [b, c, h, w] */
  readonly prediction: FloatTensor;
  /** what the last block up was given by those below it, [b, c', h, w] */
  readonly deep_features: FloatTensor;
}

/**
 * Predicts noise or velocity, as the scheduler's config says.
 *
 * @returns [b, c, h, w]
 */
export type Unet = (input: UnetInput) => Promise<FloatTensor>;

/**
 * The UNet for steps that go on from an earlier one's deep features (DeepCache, Ma et al. 2024, branch 0): those change
 * little from step to step, and most of the work is in making them.
 */
export interface CachedUnet {
  /** All of it. */
  readonly full: (input: UnetInput) => Promise<UnetOutput>;
  /** The first block down and the last one up alone. @returns the prediction, [b, c, h, w] */
  readonly shallow: (input: UnetInput & Pick<UnetOutput, "deep_features">) => Promise<FloatTensor>;
}

/** Both ways of running the UNet. */
export interface UnetModels {
  readonly unet: Unet;
  /** undefined where the bundle has no graph for it; loaded when it is first asked for, since few ask */
  readonly cachedUnet: (() => Promise<CachedUnet>) | undefined;
}

/**
 * Loads a bundle's UNet with its adapters.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const { unet } = await loadUnet(bundle, { provider: "cpu", threads: 2 });
 * const prediction = await unet(input);
 * ```
 */
export async function loadUnet(bundle: Bundle, settings: SessionSettings): Promise<UnetModels> {
  const { latent: { channels, size }, graphs } = bundle.manifest;
  const inputs = {
    sample: ["b", channels, size, size],
    timestep: ["b"],
    encoder_hidden_states: ["b", "L", "d_t"],
    identity_tokens: ["b", "M", "d_r"],
    identity_token_bias: ["b", "M"],
    identity_strength: ["b"],
  } as const;
  const prediction = ["b", channels, size, size] as const;
  const deepFeatures = ["b", "deep", size, size] as const;
  const open = await openGraph(bundle, "unet", settings);
  const run = open({ inputs, outputs: { prediction } });
  let cached: Promise<CachedUnet> | undefined;
  const load = async (whole: OpenGraph): Promise<CachedUnet> => {
    await checkUnchanged(bundle, settings);
    const part = await openGraph(bundle, "unet_shallow", settings);
    const full = whole({ inputs, outputs: { prediction, deep_features: deepFeatures } });
    const shallow = part(
      { inputs: { ...inputs, deep_features: deepFeatures }, outputs: { prediction } },
      // what only the blocks left out read
      Object.keys(inputs),
    );
    return {
      full: (input) => full({ ...input }),
      shallow: async (input) => (await shallow({ ...input })).prediction,
    };
  };
  const loadOnce = () =>
    cached ??= load(open).catch((error) => {
      // the next who asks may have more luck
      cached = undefined;
      throw error;
    });
  return {
    unet: async (input) => (await run({ ...input })).prediction,
    cachedUnet: graphs.unet_shallow === undefined ? undefined : loadOnce,
  };
}

/** Files may have been replaced since the bundle was verified, and parts of two models make no pictures. */
async function checkUnchanged({ folder, manifest }: Bundle, settings: SessionSettings): Promise<void> {
  const files = filesOfGraph(manifest, graphPath(manifest, "unet_shallow", settings));
  await verifyBundle(folder, { files }).catch((error) => {
    if (!(error instanceof BundleError)) throw error;
    throw new BundleError(
      error.code,
      `the bundle is no longer what this process started with (${error.message}): start it again`,
      { cause: error },
    );
  });
}
