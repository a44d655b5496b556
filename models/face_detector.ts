import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor } from "./tensor.ts";

/** What the detector says of one square, before the score threshold and non-maximum suppression. */
export interface RawDetections {
  /** [K, 4]: x1, y1, x2, y2, each 0..1 of the square (a face that is cut off may reach beyond) */
  readonly boxes: FloatTensor;
  /** [K], 0..1 */
  readonly scores: FloatTensor;
}

/**
 * Finds faces.
 *
 * @param image [1, 3, S, S] RGB in 0..1, S = `faces.detector.input_size`, or less where it `enlarges`: the photo fitted
 *   to the square, black at the right and bottom
 */
export type FaceDetector = (image: FloatTensor) => Promise<RawDetections>;

/**
 * Loads a bundle's face detector.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const detect = await loadFaceDetector(bundle, { provider: "cpu", threads: 2 });
 * const { boxes, scores } = await detect(square);
 * ```
 */
export async function loadFaceDetector(bundle: Bundle, settings: SessionSettings): Promise<FaceDetector> {
  const { input_size, enlarges } = bundle.manifest.faces.detector;
  const side = enlarges ? "S" : input_size;
  const run = await loadGraph(bundle, "face_detector", settings, {
    inputs: { image: [1, 3, side, side] },
    outputs: { boxes: ["K", 4], scores: ["K"] },
  });
  return (image) => run({ image });
}
