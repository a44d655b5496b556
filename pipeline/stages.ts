import { type GenerateProgress, PipelineError, type StageTimings } from "./protocol.ts";

/** What a generation tells and asks its surroundings. */
export interface GenerateOptions {
  /** told of every stage and denoising step */
  readonly onProgress?: (progress: GenerateProgress) => void;
  /** aborting it ends the generation between two steps or stages */
  readonly signal?: AbortSignal;
  /** awaited between steps and stages, so that others may use the thread; one macrotask by default */
  readonly giveWay?: () => Promise<void>;
  /** milliseconds from any origin, for the timings */
  readonly clock?: () => number;
}

type Stage = GenerateProgress["stage"];

/**
 * Follows one generation through its stages: tells progress, takes the time, gives way to others, cancels.
 *
 * @example
 * ```ts
 * const stages = new StageClock({ onProgress: console.log });
 * await stages.enter("references");
 * // ...
 * console.log(stages.timings());
 * ```
 */
export class StageClock {
  readonly #options: GenerateOptions;
  readonly #clock: () => number;
  readonly #seconds: Record<Stage, number> = { references: 0, prompt: 0, denoise: 0, decode: 0, encode: 0 };
  readonly #start: number;
  #since: number;
  #stage: Stage = "references";
  #steps = 0;

  /** Starts the clock. */
  constructor(options: GenerateOptions) {
    this.#options = options;
    this.#clock = options.clock ?? (() => performance.now());
    this.#start = this.#since = this.#clock();
  }

  /**
   * Ends the current stage and begins the next.
   *
   * @param stage the next
   * @param steps denoising steps to take; given on entering `denoise`, from where on they are known
   * @throws {PipelineError} `canceled`
   */
  async enter(stage: Stage, steps?: number): Promise<void> {
    await this.giveWay();
    this.#close();
    this.#stage = stage;
    const done = steps === undefined ? this.#steps : 0;
    this.#steps = steps ?? this.#steps;
    this.#options.onProgress?.({ stage, step: done, steps: this.#steps });
  }

  /**
   * Tells that `step` of `steps` denoising steps are done, and gives way.
   *
   * @throws {PipelineError} `canceled`
   */
  async step(step: number, steps: number): Promise<void> {
    // Step 0 was told on entering the stage.
    if (step > 0) this.#options.onProgress?.({ stage: "denoise", step, steps });
    await this.giveWay();
  }

  /**
   * Lets others have the thread.
   *
   * @throws {PipelineError} `canceled` when the signal was aborted, perhaps meanwhile
   */
  async giveWay(): Promise<void> {
    await (this.#options.giveWay ?? nextMacrotask)();
    if (this.#options.signal?.aborted) throw new PipelineError("canceled", "The generation was canceled");
  }

  /** Ends the last stage and gives the seconds spent in each. */
  timings(): StageTimings {
    this.#close();
    return { ...this.#seconds, total: (this.#since - this.#start) / 1000 };
  }

  #close(): void {
    const now = this.#clock();
    this.#seconds[this.#stage] += (now - this.#since) / 1000;
    this.#since = now;
  }
}

/**
 * Lets the event loop turn once: messages of other threads arrive in a new macrotask only, never between microtasks.
 *
 * @example
 * ```ts
 * await nextMacrotask();
 * ```
 */
export function nextMacrotask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
