import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/**
 * Tells people apart: R of equation 8.
 *
 * @param faces [n, 3, S, S] RGB in 0..1, aligned to `faces.recognizer`
 * @returns f_a, [n, d_a], rows of length 1
 */
export type FaceRecognizer = (faces: FloatTensor) => Promise<FloatTensor>;

/**
 * Loads a bundle's face recogniser.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const embedding = await (await loadFaceRecognizer(bundle, { provider: "cpu", threads: 2 }))(faces);
 * ```
 */
export async function loadFaceRecognizer(bundle: Bundle, settings: SessionSettings): Promise<FaceRecognizer> {
  const side = bundle.manifest.faces.recognizer.input_size;
  const run = await loadGraph(bundle, "face_recognizer", settings, {
    inputs: { faces: ["n", 3, side, side] },
    outputs: { embedding: ["n", "d_a"] },
  });
  return async (faces) => (await run({ faces })).embedding;
}
