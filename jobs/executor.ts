/** What runs a generation: the engine, seen from the jobs room. */

import type { GenerateEvent, GenerateInput, GenerateOutput } from "../pipeline/protocol.ts";

/** One start of a generation. */
export interface Assignment {
  /** the generation's id */
  readonly id: string;
  readonly input: GenerateInput;
  /** denoising steps from one preview of a picture to the next; 0 for none */
  readonly previewInterval: number;
}

/** Runs generations; several at once, as many as the jobs room was told. */
export interface Executor {
  /** the name of its model, which a generation then tells, whatever model was served where it was asked for */
  readonly model: string;
  /**
   * Runs one.
   *
   * @param assignment what to make
   * @param signal aborted when the generation was canceled, taken over, or the process stops
   * @param onEvent told of everything that happens to it, in order
   * @throws {PipelineError} with a code of the input's own when the request is at fault; the generation fails. Whatever
   *   else is thrown counts as a crash: the generation is tried again
   */
  run(
    assignment: Assignment,
    signal: AbortSignal,
    onEvent: (event: GenerateEvent) => void,
  ): Promise<GenerateOutput>;
}
