import { chooseBatch, type Seat } from "./batch.ts";
import { Denoiser, type Draft, type DraftStep, isDenoised, shapeOf } from "./denoise.ts";
import { EventLoop } from "./event_loop.ts";
import { runGeneration } from "./generation.ts";
import type { GenerateOptions } from "./inference.ts";
import type { Tick } from "./messages.ts";
import type { Pipeline } from "./pipeline.ts";
import type { GenerateInput, GenerateOutput } from "./protocol.ts";
import { StageClock } from "./stages.ts";
import { reasonOf, type TurnOptions, Turns } from "./turns.ts";

/** How an engine runs. */
export interface EngineSettings {
  /** most pictures in a batch, and most generations that denoise at once; 1 or more */
  readonly maxBatch: number;
  /** told of every batch's step */
  readonly onTick?: (tick: Tick) => void;
  /** milliseconds from any origin */
  readonly clock?: () => number;
}

/** A picture that is being denoised. */
interface DraftSeat extends Seat {
  readonly draft: Draft;
  readonly signal: AbortSignal;
  readonly onStep: (step: DraftStep) => void;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  lastBatch: number;
}

/** A generation that waits to begin. */
interface Waiting {
  readonly begin: () => void;
}

/**
 * Runs generations together: each step takes one run of the UNet for the pictures of all of them (step-level batching,
 * as Orca, OSDI 2022, does it for language models).
 *
 * Generations begin first come first served, as long as no more than `maxBatch` are denoising. The engine then goes
 * round and round: let messages in, let one other stage run (encoding, decoding, checking a photo), take one step with
 * the batch. Newcomers are in the next batch; who is finished or canceled is not.
 *
 * @example
 * ```ts
 * const engine = new Engine(pipeline, { maxBatch: 8 });
 * const [one, other] = await Promise.all([engine.generate(input), engine.generate(otherInput)]);
 * ```
 */
export class Engine {
  readonly #pipeline: Pipeline;
  readonly #denoiser: Denoiser;
  readonly #settings: EngineSettings;
  readonly #clock: () => number;
  readonly #turns = new Turns();
  #waiting: Waiting[] = [];
  #seats: DraftSeat[] = [];
  /** generations that have begun and are not denoised yet */
  #denoising = 0;
  #generations = 0;
  #batches = 0;
  #working = false;

  /**
   * @param pipeline the loaded bundle
   * @param settings the batch's size, and who is told
   */
  constructor(pipeline: Pipeline, settings: EngineSettings) {
    this.#pipeline = pipeline;
    this.#denoiser = new Denoiser(pipeline.models);
    this.#settings = settings;
    this.#clock = settings.clock ?? (() => performance.now());
  }

  /**
   * Makes portraits among whatever else is running.
   *
   * @param input the request
   * @param options events, previews, cancellation
   * @returns the portraits and seconds by stage
   * @throws {PipelineError} when the input is refused, or when the signal is aborted
   */
  async generate(input: GenerateInput, options: GenerateOptions = {}): Promise<GenerateOutput> {
    const { onEvent = () => {}, previewInterval = 0 } = options;
    // When one picture of a generation fails, the others leave with it.
    const ended = new AbortController();
    const signal = options.signal === undefined
      ? ended.signal
      : AbortSignal.any([options.signal, ended.signal]);
    const stages = new StageClock(this.#clock, (progress) => onEvent({ type: "progress", progress }));
    await this.#begin(signal);
    const generation = this.#generations++;
    const drafts = { left: input.numImages };
    const free = once(() => this.#free());
    try {
      onEvent({ type: "started" });
      return await runGeneration(this.#pipeline, input, {
        stages,
        onEvent,
        previewInterval,
        takeTurn: (stage) => this.#takeTurn(stage, { signal }),
        takeSpareTurn: (stage) => this.#takeTurn(stage, { signal, rank: "spare" }),
        denoise: async (draft, onStep) => {
          await this.#denoise(draft, generation, signal, onStep);
          if (--drafts.left === 0) free();
        },
      });
    } finally {
      ended.abort();
      free();
    }
  }

  /**
   * Runs something short before the next step: a photo's check, which takes milliseconds.
   *
   * @param stage what to run
   * @returns what it gave
   */
  soon<T>(stage: () => Promise<T>): Promise<T> {
    return this.#takeTurn(stage, { rank: "urgent" });
  }

  /** Waits in the queue until fewer than `maxBatch` generations are denoising. */
  #begin(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(reasonOf(signal));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => {
      this.#waiting = this.#waiting.filter((other) => other !== waiting);
      reject(reasonOf(signal));
    };
    const begin = () => {
      signal.removeEventListener("abort", leave);
      resolve();
    };
    const waiting = { begin };
    signal.addEventListener("abort", leave, { once: true });
    this.#waiting.push(waiting);
    this.#admit();
    return promise;
  }

  #admit(): void {
    while (this.#denoising < this.#settings.maxBatch && this.#waiting.length > 0) {
      this.#denoising++;
      this.#waiting.shift()!.begin();
    }
  }

  #free(): void {
    this.#denoising--;
    this.#admit();
  }

  #takeTurn<T>(stage: () => Promise<T>, options: TurnOptions): Promise<T> {
    const turn = this.#turns.take(stage, options);
    this.#wake();
    return turn;
  }

  #denoise(
    draft: Draft,
    generation: number,
    signal: AbortSignal,
    onStep: (step: DraftStep) => void,
  ): Promise<void> {
    if (signal.aborted) return Promise.reject(reasonOf(signal));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const shape = shapeOf(draft);
    this.#seats.push({ draft, generation, shape, signal, onStep, resolve, reject, lastBatch: -1 });
    this.#wake();
    return promise;
  }

  #wake(): void {
    if (!this.#working) void this.#work();
  }

  async #work(): Promise<void> {
    this.#working = true;
    const eventLoop = new EventLoop();
    while (this.#turns.length + this.#seats.length > 0) {
      await eventLoop.turn();
      await this.#turns.next();
      await this.#tick();
      // nothing of a person stays for as long as nobody is denoised
      if (this.#seats.length === 0) this.#denoiser.forget();
    }
    eventLoop.close();
    this.#working = false;
  }

  /** One step of the batch; where its run fails each picture takes the step alone, and who fails alone leaves. */
  async #tick(): Promise<void> {
    const canceled = this.#seats.filter(({ signal }) => signal.aborted);
    for (const seat of canceled) seat.reject(reasonOf(seat.signal));
    this.#seats = this.#seats.filter((seat) => !canceled.includes(seat));
    const batch = chooseBatch(this.#seats, this.#settings.maxBatch);
    if (batch.length === 0) return;
    const began = this.#clock();
    const number = this.#batches++;
    for (const seat of batch) seat.lastBatch = number;
    const left = await this.#step(batch);
    this.#seats = this.#seats.filter((seat) => !left.includes(seat));
    this.#settings.onTick?.({ pictures: batch.length, seconds: (this.#clock() - began) / 1000 });
  }

  /** @returns who is denoised, or has failed */
  async #step(batch: readonly DraftSeat[]): Promise<DraftSeat[]> {
    const before = batch.map(({ draft }) => draft.scheduler.stepIndex);
    try {
      const steps = await this.#denoiser.step(batch.map(({ draft }) => draft));
      batch.forEach(({ onStep }, index) => onStep(steps[index]!));
    } catch (error) {
      if (batch.length > 1) {
        const left: DraftSeat[] = [];
        for (const [index, seat] of batch.entries()) {
          const taken = seat.draft.scheduler.stepIndex > before[index]!;
          left.push(...taken ? this.#denoised([seat]) : await this.#step([seat]));
        }
        return left;
      }
      for (const seat of batch) seat.reject(error);
      return [...batch];
    }
    return this.#denoised(batch);
  }

  /** Tells who is denoised. @returns those */
  #denoised(batch: readonly DraftSeat[]): DraftSeat[] {
    const done = batch.filter(({ draft }) => isDenoised(draft));
    for (const seat of done) seat.resolve();
    return done;
  }
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (!done) action();
    done = true;
  };
}
