/**
 * An {@linkcode Inference} that does what a test says, for what the real worker cannot be made to do on demand: die,
 * throw nonsense, hang until its caller hangs up. Whatever the real worker can show is tested with the real worker, see
 * `bad_input_test.ts` and `real_generation_test.ts`.
 */

import type { Inference } from "../../pipeline/inference.ts";
import type { FaceReport, GenerateInput, GenerateOutput } from "../../pipeline/protocol.ts";

/** What a test scripts; calls it says nothing of fail the test. */
export type InferenceScript = Partial<Pick<Inference, "ready" | "requireRoom" | "generate" | "checkFace">>;

/**
 * Makes the inference of a script.
 *
 * @param script what it does
 * @returns an inference, ready unless the script says otherwise
 */
export function scriptInference(script: InferenceScript = {}): Inference {
  return {
    ready: script.ready ?? true,
    load: { running: 0, waiting: 0, maxBatch: 1, maxQueue: 1 },
    requireRoom: script.requireRoom ?? (() => {}),
    generate: script.generate ?? (() => Promise.reject(new Error("the script has no generate"))),
    checkFace: script.checkFace ?? (() => Promise.reject(new Error("the script has no checkFace"))),
    close: () => Promise.resolve(),
  };
}

/**
 * An output that shows what was asked for.
 *
 * @param input what was asked
 * @returns as many images as were asked for, three bytes each
 */
export function outputOf(input: GenerateInput): GenerateOutput {
  const images = Array.from({ length: input.numImages }, (_, index) => ({
    index,
    seed: input.seed + index,
    contentType: `image/${input.outputFormat}` as const,
    width: 64,
    height: 64,
    data: Uint8Array.of(1, 2, index),
    identitySimilarity: index === 0 ? 0.123456 : null,
  }));
  const timings = {
    queue: 0,
    references: 0.1,
    prompt: 0.01,
    denoise: 0.5,
    decode: 0.05,
    encode: 0.02,
    total: 0.68,
  };
  return { images, timings };
}

/** A report with one face. */
export const oneFace: FaceReport = {
  width: 100,
  height: 80,
  faces: [{
    box: { x: 10.123, y: 12, width: 40, height: 50 },
    score: 0.987654,
    landmarks: [[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]],
  }],
  usable: false,
  problems: [{ code: "blurred", message: "The face is blurred.", blocking: false }],
};
