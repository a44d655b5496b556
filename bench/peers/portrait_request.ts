import { loadManifest } from "../../models/manifest.ts";
import type { GenerateInput } from "../../pipeline/protocol.ts";

/**
 * The request the benches make: one portrait with the bundle's defaults.
 *
 * @param bundle folder
 * @param photo path of the reference photo
 *
 * @example
 * ```ts
 * const { images } = await inference.generate(await portraitRequest("models/default", "face.png"));
 * ```
 */
export async function portraitRequest(bundle: string, photo: string): Promise<GenerateInput> {
  const { defaults } = await loadManifest(bundle);
  return {
    referenceImages: [await Deno.readFile(photo)],
    prompt: "a portrait photo",
    classNoun: "person",
    negativePrompt: "",
    numImages: 1,
    numInferenceSteps: defaults.num_inference_steps,
    guidanceScale: defaults.guidance_scale,
    identityGuidanceScale: null,
    guidanceRescale: 0,
    identityStrength: defaults.identity_strength,
    scheduler: defaults.scheduler,
    seed: 1,
    outputFormat: "png",
  };
}
