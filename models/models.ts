import { type FaceDetector, loadFaceDetector } from "./face_detector.ts";
import { type FaceLandmarks, loadFaceLandmarks } from "./face_landmarks.ts";
import { type FaceRecognizer, loadFaceRecognizer } from "./face_recognizer.ts";
import { type ImageEncoder, loadImageEncoder } from "./image_encoder.ts";
import type { Bundle } from "./manifest.ts";
import { loadMixedFeatures, type MixedFeatures } from "./mixed_features.ts";
import type { SessionSettings } from "./sessions.ts";
import { loadTextEncoder, type TextEncoder } from "./text_encoder.ts";
import { loadUnet, type UnetModels } from "./unet.ts";
import { loadVaeDecoder, type VaeDecoder } from "./vae_decoder.ts";

/** The graphs that look at photos. */
export interface FaceModels {
  readonly faceDetector: FaceDetector;
  readonly faceLandmarks: FaceLandmarks;
  readonly faceRecognizer: FaceRecognizer;
}

/** Every graph that making portraits needs. */
export interface Models extends FaceModels, UnetModels {
  readonly imageEncoder: ImageEncoder;
  readonly mixedFeatures: MixedFeatures;
  readonly textEncoder: TextEncoder;
  readonly vaeDecoder: VaeDecoder;
}

/**
 * Loads the graphs that look at photos.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const { faceDetector } = await loadFaceModels(bundle, { provider: "cpu", threads: 2 });
 * ```
 */
export async function loadFaceModels(bundle: Bundle, settings: SessionSettings): Promise<FaceModels> {
  return {
    faceDetector: await loadFaceDetector(bundle, settings),
    faceLandmarks: await loadFaceLandmarks(bundle, settings),
    faceRecognizer: await loadFaceRecognizer(bundle, settings),
  };
}

/**
 * Loads every graph that making portraits needs, one after another (loading blocks the thread anyway).
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const models = await loadModels({ folder, manifest: await loadManifest(folder) }, { provider: "cpu", threads: 2 });
 * ```
 */
export async function loadModels(bundle: Bundle, settings: SessionSettings): Promise<Models> {
  return {
    ...await loadFaceModels(bundle, settings),
    imageEncoder: await loadImageEncoder(bundle, settings),
    mixedFeatures: await loadMixedFeatures(bundle, settings),
    textEncoder: await loadTextEncoder(bundle, settings),
    ...await loadUnet(bundle, settings),
    vaeDecoder: await loadVaeDecoder(bundle, settings),
  };
}
