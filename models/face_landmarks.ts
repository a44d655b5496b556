import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/**
 * Finds the 68 points of faces in the order of iBUG's 300-W.
 *
 * @param faces [n, 3, S, S] RGB in 0..1, S = `faces.landmarks.input_size`: square crops around detected faces
 * @returns [n, 68, 2]: x, y, each 0..1 of the crop
 */
export type FaceLandmarks = (faces: FloatTensor) => Promise<FloatTensor>;

/**
 * Loads a bundle's landmark graph.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const landmarks = await (await loadFaceLandmarks(bundle, { provider: "cpu", threads: 2 }))(crops);
 * ```
 */
export async function loadFaceLandmarks(bundle: Bundle, settings: SessionSettings): Promise<FaceLandmarks> {
  const side = bundle.manifest.faces.landmarks.input_size;
  const run = await loadGraph(bundle, "face_landmarks", settings, {
    inputs: { faces: ["n", 3, side, side] },
    outputs: { landmarks: ["n", 68, 2] },
  });
  return async (faces) => (await run({ faces })).landmarks;
}
