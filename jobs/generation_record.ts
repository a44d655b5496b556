import {
  type GeneratedImage,
  type GenerateEvent,
  type GeneratePreview,
  PipelineError,
  type StageTimings,
} from "../pipeline/protocol.ts";
import {
  type Generation,
  type GenerationEvent,
  type GenerationFailure,
  type GenerationRequest,
  isFinal,
} from "./generation.ts";

/** What a record takes beside its pictures, in bytes: a generous guess of its events. */
const RECORD_BYTES = 16_384;

type News<Event = GenerationEvent> = Event extends GenerationEvent ? Omit<Event, "number"> : never;

/**
 * One generation in memory: its state, and the events that led to it. Of the previews only the newest of each picture
 * is kept, and none when it is finished.
 */
export class GenerationRecord {
  /** aborting it ends the generation */
  readonly controller = new AbortController();
  #generation: Generation;
  #events: GenerationEvent[] = [];
  #news = Promise.withResolvers<void>();
  readonly #onEvent: (event: GenerationEvent) => void;

  /**
   * Begins a generation's life in the queue.
   *
   * @param id its name
   * @param request what was asked; photos and prompt are not kept
   * @param createdAt now
   * @param onEvent told of every event
   */
  constructor(
    id: string,
    { account, requestId, model, input }: GenerationRequest,
    createdAt: Date,
    onEvent: (event: GenerationEvent) => void,
  ) {
    this.#onEvent = onEvent;
    this.#generation = {
      id,
      account,
      requestId,
      model,
      numImages: input.numImages,
      numInferenceSteps: input.numInferenceSteps,
      createdAt,
      status: "queued",
      progress: null,
      images: [],
      timings: null,
      failure: null,
      expiresAt: null,
      lastEvent: 0,
    };
    this.#append((generation) => ({ type: "queued", generation }));
  }

  /** as it is now */
  get generation(): Generation {
    return this.#generation;
  }

  /** memory it takes, roughly */
  get bytes(): number {
    const previews = this.#events.filter((event) => event.type === "preview").map(({ preview }) => preview);
    const pictures: readonly (GeneratedImage | GeneratePreview)[] = [...this.#generation.images, ...previews];
    return pictures.reduce((sum, { data }) => sum + data.byteLength, RECORD_BYTES);
  }

  /** Takes what the pipeline tells; a finished generation hears nothing any more. */
  receive(event: GenerateEvent): void {
    if (isFinal(this.#generation)) return;
    switch (event.type) {
      case "started":
        this.#generation = { ...this.#generation, status: "running" };
        return this.#append((generation) => ({ type: "started", generation }));
      case "progress":
        this.#generation = { ...this.#generation, progress: event.progress };
        return this.#append(() => event);
      case "preview": {
        const { index } = event.preview;
        this.#events = this.#events.filter((old) => old.type !== "preview" || old.preview.index !== index);
        return this.#append(() => event);
      }
      case "image": {
        const images = [...this.#generation.images, event.image].toSorted((one, other) =>
          one.index - other.index
        );
        this.#generation = { ...this.#generation, images };
        return this.#append(() => event);
      }
    }
  }

  /** All portraits are there. */
  succeed(images: readonly GeneratedImage[], timings: StageTimings, expiresAt: Date): void {
    if (isFinal(this.#generation)) return;
    this.#generation = { ...this.#generation, status: "succeeded", images, timings, expiresAt };
    this.#end("succeeded");
  }

  /**
   * There will be no portraits; those of its pictures that were finished are dropped.
   *
   * @param error what ended it
   * @param expiresAt when it is forgotten
   */
  fail(error: unknown, expiresAt: Date): void {
    if (isFinal(this.#generation)) return;
    const failure = failureOf(error);
    const status = failure.code === "canceled" ? "canceled" : "failed";
    this.#generation = { ...this.#generation, status, failure, images: [], expiresAt };
    this.#events = this.#events.filter(({ type }) => type !== "image");
    this.#end("failed");
  }

  /**
   * Events after a number, as they come, up to the final one.
   *
   * @param after number of the last one known
   * @param signal ends the wait for more
   */
  async *watch(after: number, signal?: AbortSignal): AsyncGenerator<GenerationEvent> {
    let known = after;
    const hungUp = Promise.withResolvers<void>();
    const leave = () => hungUp.resolve();
    signal?.addEventListener("abort", leave, { once: true });
    try {
      while (!signal?.aborted) {
        const news = this.#news.promise;
        const next = this.#events.find(({ number }) => number > known);
        if (next !== undefined) {
          known = next.number;
          yield next;
        } else if (isFinal(this.#generation)) {
          return;
        } else {
          await Promise.race([news, hungUp.promise]);
        }
      }
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  #end(type: "succeeded" | "failed"): void {
    this.#events = this.#events.filter((event) => event.type !== "preview");
    this.#append((generation) => ({ type, generation }));
  }

  #append(describe: (generation: Generation) => News): void {
    const number = this.#generation.lastEvent + 1;
    this.#generation = { ...this.#generation, lastEvent: number };
    const event: GenerationEvent = { ...describe(this.#generation), number };
    this.#events.push(event);
    this.#onEvent(event);
    const { resolve } = this.#news;
    this.#news = Promise.withResolvers();
    resolve();
  }
}

function failureOf(error: unknown): GenerationFailure {
  if (!(error instanceof PipelineError)) {
    return { code: "internal_error", message: "The service met a fault of its own.", details: {} };
  }
  const { code, message, details } = error;
  return { code, message, details };
}
