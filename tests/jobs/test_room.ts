/** A jobs room on a test's store, and an executor that does what a test says when it says so. */

import { openJobsRoom } from "../../jobs/open_room.ts";
import type { Assignment, Executor } from "../../jobs/executor.ts";
import { keepImagesInPostgres } from "../../jobs/postgres_images.ts";
import type { GenerationRequest } from "../../jobs/generation.ts";
import type { ImageStore } from "../../jobs/image_store.ts";
import type { JobSettings, JobsRoom } from "../../jobs/room.ts";
import type { GenerateEvent, GenerateInput, GenerateOutput } from "../../pipeline/protocol.ts";
import { openQueue } from "../../store/queue.ts";
import { createSealer } from "../../store/sealing.ts";
import type { Store } from "../../store/store.ts";

/** Figures small enough to reach. */
export const testSettings: JobSettings = {
  prices: { perMegapixelStep: 100, minimum: 1 },
  initialCredit: 1000,
  mostAtOnce: 8,
  mostQueued: 100,
  timeoutSeconds: 600,
  usageEvents: true,
  resultSeconds: 600,
};

/**
 * Opens a room with everything it needs but an executor.
 *
 * @param store of the test
 * @param settings in place of {@linkcode testSettings}
 * @param images where pictures go, in place of the store
 * @returns the room; `await using` stops its queue, too
 */
export async function openTestRoom(
  store: Store,
  settings: Partial<JobSettings> = {},
  images: ImageStore = keepImagesInPostgres(store.queries),
): Promise<JobsRoom & AsyncDisposable> {
  const queue = await openQueue(store);
  const sealer = await createSealer([new Uint8Array(32).fill(7)]);
  const room = await openJobsRoom({
    store,
    queue,
    images,
    sealer,
    settings: { ...testSettings, ...settings },
  });
  return {
    ...room,
    async [Symbol.asyncDispose]() {
      await room[Symbol.asyncDispose]();
      await queue[Symbol.asyncDispose]();
    },
  };
}

/** A request with two photos that are none. */
export function requestFrom(account: string, changes: Partial<GenerateInput> = {}): GenerationRequest {
  return {
    account,
    key: "test",
    endUser: null,
    ceiling: {},
    requestId: "request-1",
    previewInterval: 0,
    model: "test-model",
    pixels: 128 * 128,
    input: {
      referenceImages: [Uint8Array.of(1, 2, 3), Uint8Array.of(4)],
      prompt: "a smile",
      classNoun: "woman",
      negativePrompt: "",
      numImages: 1,
      numInferenceSteps: 20,
      guidanceScale: 3,
      identityGuidanceScale: null,
      guidanceRescale: 0,
      identityStrength: 1,
      scheduler: "dpmpp_2m",
      cacheInterval: 1,
      seed: 5,
      outputFormat: "png",
      ...changes,
    },
  };
}

/** The price of {@linkcode requestFrom}'s request by {@linkcode testSettings}. */
export const requestPrice = 33;

/** One run that the test is in charge of. */
export interface ControlledRun {
  readonly assignment: Assignment;
  readonly signal: AbortSignal;
  readonly tell: (event: GenerateEvent) => void;
  /** Ends it with as many pictures as were asked for. */
  succeed(): void;
  /** Ends it with an error. */
  fail(error: Error): void;
}

/**
 * An executor for what the real engine cannot be made to do on demand: hang, crash, come too late. The real one runs in
 * `real_executor_test.ts`.
 */
export class ControlledExecutor implements Executor {
  /** @param model the name of the model that it makes believe to run */
  constructor(readonly model = "test-model") {}

  readonly #runs: ControlledRun[] = [];
  readonly #waiting: ((run: ControlledRun) => void)[] = [];

  /** @inheritDoc */
  run(
    assignment: Assignment,
    signal: AbortSignal,
    tell: (event: GenerateEvent) => void,
  ): Promise<GenerateOutput> {
    const { promise, resolve, reject } = Promise.withResolvers<GenerateOutput>();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    if (signal.aborted) reject(signal.reason);
    const run: ControlledRun = {
      assignment,
      signal,
      tell,
      succeed: () => resolve(outputOf(assignment.input)),
      fail: reject,
    };
    const next = this.#waiting.shift();
    if (next === undefined) this.#runs.push(run);
    else next(run);
    return promise;
  }

  /** The next run that begins, or has begun. */
  next(): Promise<ControlledRun> {
    const run = this.#runs.shift();
    return run === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(run);
  }

  /** Runs that began and that nobody has asked for. */
  get pending(): number {
    return this.#runs.length;
  }
}

/** Pictures of three bytes each. */
export function outputOf(input: GenerateInput): GenerateOutput {
  return {
    images: Array.from({ length: input.numImages }, (_, index) => ({
      index,
      seed: input.seed + index,
      contentType: "image/png" as const,
      width: 128,
      height: 128,
      data: Uint8Array.of(9, 9, index),
      identitySimilarity: 0.5,
    })),
    timings: { queue: 0, references: 0.1, prompt: 0.1, denoise: 1, decode: 0.1, encode: 0.1, total: 1.4 },
  };
}
