import { Engine } from "./engine.ts";
import type { GenerateOptions } from "./inference.ts";
import type { Pipeline } from "./pipeline.ts";
import type { GenerateInput, GenerateOutput } from "./protocol.ts";

/**
 * Makes one request's portraits on the calling thread, with nobody else: for scripts and measurements.
 *
 * @param pipeline the loaded bundle
 * @param input the request
 * @param options events, previews, cancellation
 * @returns the portraits and seconds by stage
 * @throws {PipelineError} when the input is refused, or `canceled`
 *
 * @example
 * ```ts
 * const { images } = await generate(pipeline, input, { onEvent: console.log });
 * ```
 */
export function generate(
  pipeline: Pipeline,
  input: GenerateInput,
  options: GenerateOptions = {},
): Promise<GenerateOutput> {
  return new Engine(pipeline, { maxBatch: input.numImages }).generate(input, options);
}
