/** What the rest of the service may ask of the inference worker. */

import type { FaceReport, GenerateEvent, GenerateInput, GenerateOutput } from "./protocol.ts";

/** How a generation is watched and ended. */
export interface GenerateOptions {
  /**
   * aborting it ends the generation before its next step or stage; when the reason is a `PipelineError` the
   * generation fails with it, else with `canceled`
   */
  readonly signal?: AbortSignal;
  /** told of everything that happens to the generation, in order */
  readonly onEvent?: (event: GenerateEvent) => void;
  /** denoising steps from one preview of a picture to the next; 0, the default, for none */
  readonly previewInterval?: number;
}

/** How busy the worker is, in generations. */
export interface InferenceLoad {
  /** those that have left the queue and are not finished */
  readonly running: number;
  /** those still in the queue */
  readonly waiting: number;
  /** most pictures in a batch, which is also the most generations that denoise at once */
  readonly maxBatch: number;
  /** most generations that may wait */
  readonly maxQueue: number;
}

/** The inference worker as its callers see it; `client.ts` implements it. */
export interface Inference {
  /** false until the bundle is loaded and every served shape was run once, and again after the worker died */
  readonly ready: boolean;
  readonly load: InferenceLoad;
  /**
   * Asks whether one more generation would be taken.
   *
   * @throws {PipelineError} `queue_full` with `details.retry_after_seconds`
   */
  requireRoom(): void;
  /**
   * Makes portraits, together with whatever else is running.
   *
   * @throws {PipelineError} when the queue is full, the input is refused, the signal aborted or the worker fails
   */
  generate(input: GenerateInput, options?: GenerateOptions): Promise<GenerateOutput>;
  /** @throws {PipelineError} when the photo cannot be decoded */
  checkFace(photo: Uint8Array, signal?: AbortSignal): Promise<FaceReport>;
  /** Ends the worker; running calls reject with code `canceled`. */
  close(): Promise<void>;
}
