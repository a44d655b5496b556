/** A generation as its caller knows it, and the small set of calls that routes need: whoever keeps them. */

import type {
  GeneratedImage,
  GenerateInput,
  GeneratePreview,
  GenerateProgress,
  PipelineErrorCode,
  StageTimings,
} from "../pipeline/protocol.ts";
import type { GenerationState } from "../store/schema.ts";
import type { IdempotentRequest } from "./idempotency.ts";

/** Where a generation is in its life; all but `queued` and `running` are final. */
export type GenerationStatus = GenerationState;

/**
 * Why a generation has no portraits; `internal_error` is a fault of the service that says nothing of itself,
 * `image_store_unavailable` one of where portraits are kept.
 */
export interface GenerationFailure {
  readonly code: PipelineErrorCode | "internal_error" | "image_store_unavailable";
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
  /** what it costs when it succeeds, in credits */
  readonly price: number;
  readonly createdAt: Date;
  readonly status: GenerationStatus;
  /** null while it is queued, and where another instance has not told yet */
  readonly progress: GenerateProgress | null;
  /** those that are finished, in their order; all of them when it succeeded, else those of this instance */
  readonly images: readonly GeneratedImage[];
  /** when it succeeded */
  readonly timings: StageTimings | null;
  /** when it ended without portraits */
  readonly failure: GenerationFailure | null;
  /** when a finished one is forgotten */
  readonly expiresAt: Date | null;
  /** number of its newest event */
  readonly lastEvent: number;
}

/** What happened to a generation; `number` rises from 1 and tells a watcher where to go on. */
export type GenerationEvent =
  & { readonly number: number }
  & (
    | { readonly type: "queued" | "started" | "succeeded" | "failed"; readonly generation: Generation }
    | { readonly type: "progress"; readonly progress: GenerateProgress }
    | { readonly type: "preview"; readonly preview: GeneratePreview }
    | { readonly type: "image"; readonly image: GeneratedImage }
  );

/** What a narrowed token may ask for at a time; a field left out is no limit. */
export interface RequestCeiling {
  /** pictures, 1 or more */
  readonly images?: number;
  /** credits, 0 or more */
  readonly price?: number;
}

/** What to make, and for whom. */
export interface GenerationRequest {
  readonly account: string;
  /** the client that asks, for usage by key */
  readonly key: string;
  /** whom of the account's own users it is for; null where the token names nobody */
  readonly endUser: string | null;
  /** most that whoever asks may ask for */
  readonly ceiling: RequestCeiling;
  readonly requestId: string;
  readonly model: string;
  readonly input: GenerateInput;
  /** pixels of one picture */
  readonly pixels: number;
  /** denoising steps from one preview of a picture to the next; 0 for none */
  readonly previewInterval: number;
  readonly idempotency?: IdempotentRequest;
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
   * Takes a generation on, or finds the one an earlier request with the same key made.
   *
   * @throws whatever `accept` throws; then nothing is kept of it
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
