/** A finished generation as the API shows it. */

import type { Generation } from "../openapi/generation.ts";
import type { GenerateInput, GenerateOutput, StageTimings } from "../pipeline/protocol.ts";

const round = (value: number) => Math.round(value * 10_000) / 10_000;

function roundTimings(
  { references, prompt, denoise, decode, encode, total }: StageTimings,
): Generation["timings"] {
  return {
    references: round(references),
    prompt: round(prompt),
    denoise: round(denoise),
    decode: round(decode),
    encode: round(encode),
    total: round(total),
  };
}

/**
 * Writes the answer.
 *
 * @param id the generation's name
 * @param model name of the bundle that made it
 * @param input what was asked for
 * @param output what was made
 * @returns the body, pictures as base64
 */
export function toGeneration(
  id: string,
  model: string,
  input: GenerateInput,
  output: GenerateOutput,
): Generation {
  return {
    id,
    status: "succeeded",
    model,
    images: output.images.map((image) => ({
      index: image.index,
      seed: image.seed,
      content_type: image.contentType,
      width: image.width,
      height: image.height,
      data: image.data.toBase64(),
      identity_similarity: image.identitySimilarity === null ? null : round(image.identitySimilarity),
    })),
    timings: roundTimings(output.timings),
    usage: { images: output.images.length, steps: output.images.length * input.numInferenceSteps },
  };
}
