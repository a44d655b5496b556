/** A generation as its caller knows it, and the small set of calls that routes need: whoever keeps them. */

import type { Inference } from "../pipeline/inference.ts";
import type {
  GeneratedImage,
  GenerateInput,
  GeneratePreview,
  GenerateProgress,
  PipelineErrorCode,
  StageTimings,
} from "../pipeline/protocol.ts";

/** Where a generation is in its life; the last three are final. */
export type GenerationStatus = "queued" | "running" | "succeeded" | "failed" | "canceled";

/** Why a generation has no portraits; `internal_error` is a fault of the service that says nothing of itself. */
export interface GenerationFailure {
  readonly code: PipelineErrorCode | "internal_error";
  readonly message: string;
  readonly details: Readonly<Record<string, number | string>>;
}

/** A generation at one moment. */
export interface Generation {
  readonly id: string;
  /** whose it is; nobody else sees it */
  readonly account: string;
  /** names the request that asked for it */
  readonly requestId: string;
  /** name of the bundle */
  readonly model: string;
  readonly numImages: number;
  readonly numInferenceSteps: number;
  readonly createdAt: Date;
  readonly status: GenerationStatus;
  /** null while it is queued */
  readonly progress: GenerateProgress | null;
  /** those that are finished, in their order */
  readonly images: readonly GeneratedImage[];
  /** when it succeeded */
  readonly timings: StageTimings | null;
  /** when it failed or was canceled */
  readonly failure: GenerationFailure | null;
  /** when a finished one is forgotten */
  readonly expiresAt: Date | null;
  /** number of its newest event */
  readonly lastEvent: number;
}

/** What happened to a generation; `number` counts from 1 and tells a watcher where to go on. */
export type GenerationEvent =
  & { readonly number: number }
  & (
    | { readonly type: "queued" | "started" | "succeeded" | "failed"; readonly generation: Generation }
    | { readonly type: "progress"; readonly progress: GenerateProgress }
    | { readonly type: "preview"; readonly preview: GeneratePreview }
    | { readonly type: "image"; readonly image: GeneratedImage }
  );

/** What to make, for whom, and with what. */
export interface GenerationRequest {
  readonly account: string;
  readonly requestId: string;
  readonly model: string;
  readonly inference: Pick<Inference, "generate" | "requireRoom">;
  readonly input: GenerateInput;
  /** denoising steps from one preview of a picture to the next; 0 for none */
  readonly previewInterval: number;
}

/** Where in a generation's events to begin, and when to stop waiting for more. */
export interface WatchOptions {
  /** number of the last event that is known; 0 for all */
  readonly after?: number;
  readonly signal?: AbortSignal;
}

/** Keeps generations: what the routes ask of it. Every call names the account; others' generations do not exist. */
export interface Generations {
  /**
   * Takes a generation on.
   *
   * @throws {PipelineError} `queue_full` or `shutting_down`; then nothing is kept of it
   */
  submit(request: GenerationRequest): Promise<Generation>;
  /** @returns undefined when there is none, or no longer */
  find(account: string, id: string): Promise<Generation | undefined>;
  /**
   * Tells what happened and what happens, up to the final event.
   *
   * @returns undefined when there is no such generation
   */
  watch(
    account: string,
    id: string,
    options?: WatchOptions,
  ): Promise<AsyncIterable<GenerationEvent> | undefined>;
  /**
   * Ends a generation that is not finished; a finished one stays as it is.
   *
   * @returns how it is now, or undefined when there is none
   */
  cancel(account: string, id: string): Promise<Generation | undefined>;
  /**
   * Erases a generation with its pictures; cancels it first when it is not finished.
   *
   * @returns whether there was one
   */
  remove(account: string, id: string): Promise<boolean>;
}

/** Whether nothing will happen to a generation any more. */
export function isFinal({ status }: Pick<Generation, "status">): boolean {
  return status !== "queued" && status !== "running";
}
