import { join } from "node:path";
import type { Bundle } from "../models/manifest.ts";
import { loadManifest } from "../models/manifest.ts";
import { loadModels, type Models } from "../models/models.ts";
import { readBundleFile } from "../models/read_bundle_file.ts";
import type { SessionSettings } from "../models/sessions.ts";
import { verifyBundle } from "../models/verify_bundle.ts";
import { NoiseLevels } from "./schedulers/noise_levels.ts";
import { parseSchedulerConfig, type SchedulerConfig } from "./schedulers/scheduler_config.ts";
import { loadTokenizer, type TextTokenizer } from "./tokenizer.ts";

/** A loaded bundle: everything that making portraits needs, nothing of any request. */
export interface Pipeline extends Bundle {
  readonly models: Models;
  readonly tokenizer: TextTokenizer;
  readonly schedulerConfig: SchedulerConfig;
  readonly noiseLevels: NoiseLevels;
}

/**
 * Verifies and loads a bundle. Blocks the calling thread for as long as ONNX Runtime takes to load the graphs.
 *
 * @param folder the bundle
 * @param settings where the graphs run
 * @throws {BundleError} the bundle is not whole, does not fit its manifest, or the provider is not usable
 *
 * @example
 * ```ts
 * const pipeline = await loadPipeline("models/default", { provider: "cpu", threads: 2 });
 * ```
 */
export async function loadPipeline(folder: string, settings: SessionSettings): Promise<Pipeline> {
  const manifest = await loadManifest(folder);
  await verifyBundle(folder, manifest);
  const bundle = { folder, manifest };
  const schedulerConfig = await readBundleFile(join(folder, manifest.scheduler), parseSchedulerConfig);
  return {
    ...bundle,
    models: await loadModels(bundle, settings),
    tokenizer: await loadTokenizer(join(folder, manifest.tokenizer)),
    schedulerConfig,
    noiseLevels: new NoiseLevels(schedulerConfig),
  };
}
