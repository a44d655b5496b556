/** The bundle and the photo that tests of the real models use. */

import { fileURLToPath } from "node:url";
import { type Bundle, loadManifest } from "../models/manifest.ts";
import type { SessionSettings } from "../models/sessions.ts";
import type { GenerateInput } from "../pipeline/protocol.ts";
import { fixtureUrl } from "./read_fixture.ts";

/** The embedded bundle, or the one that `BUNDLE` names. */
export const bundleFolder: string = Deno.env.get("BUNDLE") ??
  fileURLToPath(new URL("../models/default", import.meta.url));

/** Two threads on the CPU: what the smallest machine has; the precision that is compared with PyTorch. */
export const sessionSettings: SessionSettings = { provider: "cpu", threads: 2, precision: "fp32" };

/** The bundle with its checked manifest. */
export async function realBundle(): Promise<Bundle> {
  return { folder: bundleFolder, manifest: await loadManifest(bundleFolder) };
}

/** A portrait with one upright face, made by the project's own model; `TEST_PHOTO` names another file. */
export function portrait(): Promise<Uint8Array<ArrayBuffer>> {
  return Deno.readFile(Deno.env.get("TEST_PHOTO") ?? fixtureUrl("reference/photo.png"));
}

/** A small request; fields in `changes` take the place of its own. */
export function smallRequest(photo: Uint8Array, changes: Partial<GenerateInput> = {}): GenerateInput {
  return {
    referenceImages: [photo],
    prompt: "a portrait photo",
    classNoun: "woman",
    negativePrompt: "",
    numImages: 1,
    numInferenceSteps: 4,
    guidanceScale: 3,
    identityGuidanceScale: null,
    guidanceRescale: 0,
    identityStrength: 1,
    scheduler: "dpmpp_2m",
    cacheInterval: 1,
    seed: 11,
    outputFormat: "png",
    ...changes,
  };
}
