import type { GeneratedImage, GenerateEvent, GeneratePreview } from "../pipeline/protocol.ts";
import { type Generation, type GenerationEvent, isFinal } from "./generation.ts";

/** What a record takes beside its pictures, in bytes: a generous guess of its events. */
const RECORD_BYTES = 16_384;

/**
 * Number of the final event. Instances may have told different events before it: with this one number, whoever has it
 * has everything, and whoever has not will get it, wherever the watching goes on.
 */
export const FINAL_EVENT = 999_999_999;

type News<Event = GenerationEvent> = Event extends GenerationEvent ? Omit<Event, "number"> : never;

/**
 * One generation as this instance can tell of it: its state, and the events that led to it. Of the previews only the
 * newest of each picture is kept, and none when it is finished.
 */
export class GenerationRecord {
  #generation: Generation;
  #events: GenerationEvent[] = [];
  #news = Promise.withResolvers<void>();
  readonly #onEvent: (event: GenerationEvent) => void;

  /**
   * Begins with what is known: events are made of it.
   *
   * @param generation in any state
   * @param onEvent told of every event that follows
   */
  constructor(generation: Generation, onEvent: (event: GenerationEvent) => void = () => {}) {
    this.#onEvent = () => {};
    const { status, images } = generation;
    this.#generation = { ...generation, status: "queued", images: [], lastEvent: 0 };
    this.#append((generation) => ({ type: "queued", generation }));
    if (status === "running" || status === "succeeded") this.receive({ type: "started" });
    if (isFinal(generation)) {
      // whoever followed it live has other numbers: pictures come after all of those, however many they were
      this.#generation = { ...this.#generation, lastEvent: FINAL_EVENT - 1 - images.length };
    }
    for (const image of images) this.receive({ type: "image", image });
    if (isFinal(generation)) this.finish(generation);
    this.#onEvent = onEvent;
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

  /** Takes what the pipeline tells; a finished generation hears nothing any more, and none starts twice. */
  receive(event: GenerateEvent): void {
    if (isFinal(this.#generation)) return;
    switch (event.type) {
      case "started":
        if (this.#generation.status === "running") return;
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
        const others = this.#generation.images.filter(({ index }) => index !== event.image.index);
        // made again after an instance died: it is the same picture
        if (others.length < this.#generation.images.length) return;
        const images = [...others, event.image].toSorted((one, other) => one.index - other.index);
        this.#generation = { ...this.#generation, images };
        return this.#append(() => event);
      }
    }
  }

  /**
   * Takes the end, as the database has it: pictures that were not told yet are told before it.
   *
   * @param generation in its final state, with its pictures when it succeeded
   */
  finish(generation: Generation): void {
    if (isFinal(this.#generation)) return;
    const succeeded = generation.status === "succeeded";
    if (succeeded) { for (const image of generation.images) this.receive({ type: "image", image }); }
    this.#events = this.#events.filter(({ type }) => type !== "preview" && (succeeded || type !== "image"));
    this.#generation = { ...generation, lastEvent: this.#generation.lastEvent };
    this.#append((generation) => ({ type: succeeded ? "succeeded" : "failed", generation }));
  }

  /**
   * Events after a number, as they come, up to the final one.
   *
   * @param after number of the last one known; one that this instance never gave means all that is to come
   * @param signal ends the wait for more
   */
  async *watch(after: number, signal?: AbortSignal): AsyncGenerator<GenerationEvent> {
    let known = after === FINAL_EVENT ? after : Math.min(after, this.#newest());
    const hungUp = Promise.withResolvers<void>();
    const leave = () => hungUp.resolve();
    signal?.addEventListener("abort", leave, { once: true });
    try {
      while (true) {
        const news = this.#news.promise;
        const next = this.#events.find(({ number }) => number > known);
        if (next !== undefined) {
          known = next.number;
          yield next;
        } else if (isFinal(this.#generation) || signal?.aborted) {
          return;
        } else {
          await Promise.race([news, hungUp.promise]);
        }
      }
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  /** Number of the newest event before the final one. */
  #newest(): number {
    return this.#events.findLast(({ number }) => number !== FINAL_EVENT)?.number ?? 0;
  }

  #append(describe: (generation: Generation) => News): void {
    const number = isFinal(this.#generation) ? FINAL_EVENT : this.#generation.lastEvent + 1;
    this.#generation = { ...this.#generation, lastEvent: number };
    const event: GenerationEvent = { ...describe(this.#generation), number };
    this.#events.push(event);
    this.#onEvent(event);
    const { resolve } = this.#news;
    this.#news = Promise.withResolvers();
    resolve();
  }
}
