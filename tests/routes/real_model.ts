/** The real model for tests: the bundle of the configuration (the embedded one unless `BUNDLE` names another). */

import { loadConfig } from "../../config.ts";
import { loadManifest } from "../../models/manifest.ts";
import { startInference } from "../../pipeline/client.ts";
import type { ServedModel } from "../../routes/app_options.ts";

/**
 * Loads the bundle into a real inference worker.
 *
 * @returns the model; `await using` ends its worker
 */
export async function loadRealModel(): Promise<ServedModel & AsyncDisposable> {
  const { bundle, threads } = loadConfig(Deno.env.toObject(), {
    cores: navigator.hardwareConcurrency,
    workingDirectory: Deno.cwd(),
  });
  const manifest = await loadManifest(bundle);
  const inference = await startInference({ bundle, provider: "cpu", threads });
  return { manifest, inference, [Symbol.asyncDispose]: () => inference.close() };
}

/** A portrait the project's own model made, PNG: one face, large enough, from the front. */
export function readFacePhoto(): Promise<Uint8Array<ArrayBuffer>> {
  return Deno.readFile(new URL("../fixtures/face.png", import.meta.url));
}
