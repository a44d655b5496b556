/** The model: every file as the manifest says, every graph loadable where it will run. */

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import type { Config } from "../config.ts";
import { BundleError } from "../models/bundle_error.ts";
import { graphPath } from "../models/graph_variant.ts";
import { GRAPH_NAMES, loadManifest, type Manifest } from "../models/manifest.ts";
import { createSession } from "../models/sessions.ts";
import { verifyBundle } from "../models/verify_bundle.ts";
import { exists } from "./exists.ts";
import { failed, type Finding, fine, messageOf } from "./finding.ts";

/** What ONNX Runtime's CUDA provider is linked against, and the driver's own library. */
const cudaLibraries = [
  "libcuda.so.1",
  "libcudart.so.12",
  "libcublas.so.12",
  "libcublasLt.so.12",
  "libcufft.so.11",
  "libcurand.so.10",
  "libcudnn.so.9",
];

function canLoad(library: string): boolean {
  try {
    Deno.dlopen(library, {}).close();
    return true;
  } catch {
    return false;
  }
}

/** ONNX Runtime's own part of it, which the package's install script fetches. */
async function missingProviders(): Promise<string[]> {
  const entry = createRequire(import.meta.url).resolve("onnxruntime-node");
  const folder = join(dirname(entry), "../bin/napi-v6", process.platform, process.arch);
  const libraries = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"];
  const there = await Promise.all(libraries.map((library) => exists(join(folder, library))));
  return libraries.filter((_, index) => !there[index]);
}

async function checkSessions(
  { bundle, executionProvider: provider, threads }: Config,
  manifest: Manifest,
): Promise<Finding> {
  const check = "execution provider";
  for (const name of GRAPH_NAMES) {
    const settings = { provider, threads };
    try {
      await (await createSession(`${bundle}/${graphPath(manifest, name, settings)}`, settings)).release();
    } catch (error) {
      const reason = messageOf(error);
      if (provider === "cuda" && error instanceof BundleError && error.code === "provider_unavailable") {
        const missing = [
          ...await missingProviders(),
          ...cudaLibraries.filter((library) => !canLoad(library)),
        ];
        const detail = missing.length > 0 ? `CUDA cannot be used; missing: ${missing.join(", ")}` : reason;
        return failed(
          check,
          detail,
          "Install CUDA 12 and cuDNN 9 and ONNX Runtime's CUDA libraries (the install script of onnxruntime-node), " +
            "or set EXECUTION_PROVIDER=cpu.",
        );
      }
      return failed(check, reason, "Fetch or export the bundle again; it must be of this release's layout.");
    }
  }
  return fine(check, `${provider}, ${GRAPH_NAMES.length} graphs load, ${threads} threads`);
}

/**
 * Checks the bundle's files and that each graph loads on the execution provider.
 *
 * @param config of the service
 * @returns a finding for the files, and one for the graphs where the files are good
 */
export async function checkBundle(config: Config): Promise<Finding[]> {
  try {
    const manifest = await loadManifest(config.bundle);
    await verifyBundle(config.bundle, manifest);
    const files = Object.values(manifest.files);
    const megabytes = Math.round(files.reduce((sum, { size }) => sum + size, 0) / 1e6);
    const { name, version } = manifest;
    const detail =
      `${name} ${version}: ${files.length} files, ${megabytes} MB, every SHA-256 as it should be`;
    return [fine("bundle", detail), await checkSessions(config, manifest)];
  } catch (error) {
    const remedy = "Fetch the bundle again, or have BUNDLE name another; the embedded one is models/default.";
    return [failed("bundle", messageOf(error), remedy)];
  }
}
