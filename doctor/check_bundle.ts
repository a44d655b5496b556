/** The model: every file as the manifest says, and loaded and run as the service does it. */

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import type { Config } from "../config.ts";
import { BundleError } from "../models/bundle_error.ts";
import { filesToFetch } from "../models/fetch_bundle.ts";
import { loadManifest } from "../models/manifest.ts";
import { loadPipeline } from "../pipeline/pipeline.ts";
import { warmUp } from "../pipeline/warm_up.ts";
import { exists } from "./exists.ts";
import { failed, type Finding, fine, messageOf } from "./finding.ts";

/** The driver's own library, and what ONNX Runtime's CUDA provider opens when it needs it. */
const cudaLibraries = ["libcuda.so.1", "libcudnn.so.9"];

/**
 * What a shared library of 64-bit Linux is linked against. The CUDA provider is built for CUDA 12 or 13: this tells which.
 *
 * @param path of the library
 * @returns names such as `libcudart.so.13`, the entries `DT_NEEDED` of the ELF file
 *
 * @example
 * ```ts
 * await linkedLibraries("bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so");
 * ```
 */
export async function linkedLibraries(path: string): Promise<string[]> {
  const bytes = await Deno.readFile(path);
  const view = new DataView(bytes.buffer);
  const number = (at: number) => Number(view.getBigUint64(at, true));
  const segments = Array.from({ length: view.getUint16(0x38, true) }, (_, index) => {
    const at = number(0x20) + index * view.getUint16(0x36, true);
    return {
      kind: view.getUint32(at, true),
      offset: number(at + 8),
      address: number(at + 16),
      length: number(at + 32),
    };
  });
  const loaded = 1, dynamic = 2;
  const entries = segments.filter(({ kind }) => kind === dynamic).flatMap(({ offset, length }) =>
    Array.from({ length: length / 16 }, (_, index) => ({
      tag: number(offset + index * 16),
      value: number(offset + index * 16 + 8),
    }))
  );
  const needed = 1, names = 5;
  const table = entries.find(({ tag }) => tag === names)?.value ?? 0;
  const segment = segments.find(({ kind, address, length }) =>
    kind === loaded && address <= table && table < address + length
  );
  const start = table - (segment?.address ?? 0) + (segment?.offset ?? 0);
  return entries.filter(({ tag }) => tag === needed).map(({ value }) => {
    const name = bytes.subarray(start + value);
    return new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
  });
}

function canLoad(library: string): boolean {
  try {
    Deno.dlopen(library, {}).close();
    return true;
  } catch {
    return false;
  }
}

/** ONNX Runtime's own part of it, which npm's package comes without, and what that part is linked against. */
async function missingLibraries(): Promise<string[]> {
  const entry = createRequire(import.meta.url).resolve("onnxruntime-node");
  const folder = join(dirname(entry), "../bin/napi-v6", process.platform, process.arch);
  const provider = "libonnxruntime_providers_cuda.so";
  const own = ["libonnxruntime_providers_shared.so", provider];
  const there = await Promise.all(own.map((library) => exists(join(folder, library))));
  // where it is not there, or is no library, nothing is known of that
  const linked = await linkedLibraries(join(folder, provider)).catch(() => []);
  return [
    ...own.filter((_, index) => !there[index]),
    ...new Set([...linked, ...cudaLibraries]).values().filter((library) => !canLoad(library)),
  ];
}

/** Loads and runs the bundle as a start does, but keeps nothing of it. */
async function checkPipeline(
  { bundle, executionProvider: provider, threads }: Config,
): Promise<Finding> {
  const check = "execution provider";
  try {
    const pipeline = await loadPipeline(bundle, { provider, threads });
    await warmUp(pipeline, { provider, maxBatch: 1 });
    // what a start leaves until it is asked for
    await pipeline.models.cachedUnet?.();
    return fine(check, `${provider}, every graph loads, a warm-up runs, ${threads} threads`);
  } catch (error) {
    const reason = messageOf(error);
    const code = error instanceof BundleError ? error.code : undefined;
    if (code?.startsWith("file_") || code === "manifest_invalid") throw error;
    if (provider === "cuda" && code === "provider_unavailable") {
      const missing = await missingLibraries();
      const detail = missing.length > 0 ? `CUDA cannot be used; missing: ${missing.join(", ")}` : reason;
      return failed(
        check,
        detail,
        "Install ONNX Runtime's CUDA provider, the CUDA that it is built for (12 or 13), cuDNN 9 and a driver for " +
          "it (docs/operate.md, The image), or set EXECUTION_PROVIDER=cpu.",
      );
    }
    return failed(
      check,
      reason,
      code === undefined
        ? "See that there is as much memory, and with cuda of the device's, as a start takes: beside a running " +
          "service that is as much again."
        : "Fetch or export the bundle again; it must be of this release's layout.",
    );
  }
}

/**
 * Checks the bundle's files and that it loads and runs on the execution provider.
 *
 * @param config of the service
 * @returns a finding for the files, and one for the graphs where the files are good; of a bundle that the next start
 * fetches, or goes on fetching, one that says so
 */
export async function checkBundle(config: Config): Promise<Finding[]> {
  const { bundle, bundleSource } = config;
  const from = bundleSource && `s3://${bundleSource.bucket}/${bundleSource.prefix}`;
  if (from !== undefined && !await exists(join(bundle, "bundle.json"))) {
    return [fine("bundle", `fetched from ${from} at the first start, and not looked at before`)];
  }
  try {
    const manifest = await loadManifest(bundle);
    const { name, version, files } = manifest;
    const all = Object.values(files);
    if (from !== undefined) {
      const [first, ...others] = await filesToFetch(bundle, manifest);
      if (first !== undefined) {
        const missing = others.length === 0 ? first : `${first} and ${others.length} more`;
        const detail =
          `${name} ${version}: ${missing} of ${all.length} files are missing or damaged, the next start ` +
          `fetches them from ${from}, and it is not looked at before`;
        return [fine("bundle", detail)];
      }
    }
    const graphs = await checkPipeline(config);
    const megabytes = Math.round(all.reduce((sum, { size }) => sum + size, 0) / 1e6);
    const detail = `${name} ${version}: ${all.length} files, ${megabytes} MB, every SHA-256 as it should be`;
    return [fine("bundle", detail), graphs];
  } catch (error) {
    const remedy = "Fetch the bundle again, or have BUNDLE name another; the embedded one is models/default.";
    return [failed("bundle", messageOf(error), remedy)];
  }
}
