/** Log lines of generations. */

import type { Generation, GenerationEvent } from "../jobs/generation.ts";
import { errorFields, type Logger } from "./logger.ts";

/**
 * Logs how each generation ended, with nothing of what it was about.
 *
 * @param log where lines go
 * @returns a function for the registry's `onEvent`
 *
 * @example
 * ```ts
 * const registry = new GenerationRegistry({ ...limits, onEvent: logGenerations(log) });
 * ```
 */
export function logGenerations(
  log: Logger,
): (generation: Generation, event: GenerationEvent, cause?: unknown) => void {
  return (generation, { type }, cause) => {
    if (type !== "succeeded" && type !== "failed") return;
    const { id, requestId, status, numImages, numInferenceSteps, timings, failure } = generation;
    const ownFault = failure?.code === "internal_error";
    log(ownFault ? "error" : "info", "generation", {
      request_id: requestId,
      id,
      images: numImages,
      steps: numInferenceSteps,
      status,
      ...(timings === null ? {} : { seconds: Math.round(timings.total * 10_000) / 10_000 }),
      ...(failure === null ? {} : { code: failure.code }),
      ...(ownFault ? errorFields(cause) : {}),
    });
  };
}
