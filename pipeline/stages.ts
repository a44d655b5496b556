import type { GenerateProgress, StageTimings } from "./protocol.ts";

type Stage = GenerateProgress["stage"];

/**
 * Follows one generation through its stages: tells progress and takes the time, from its request on.
 *
 * @example
 * ```ts
 * const stages = new StageClock(() => performance.now(), console.log);
 * stages.enter("references");
 * // ...
 * console.log(stages.timings());
 * ```
 */
export class StageClock {
  readonly #clock: () => number;
  readonly #onProgress: (progress: GenerateProgress) => void;
  readonly #seconds = { queue: 0, references: 0, prompt: 0, denoise: 0, decode: 0, encode: 0 };
  readonly #start: number;
  #since: number;
  #stage: Stage | "queue" = "queue";
  #step = 0;
  #steps = 0;

  /**
   * Starts the clock, in the queue.
   *
   * @param clock milliseconds from any origin
   * @param onProgress told of every stage and step
   */
  constructor(clock: () => number, onProgress: (progress: GenerateProgress) => void) {
    this.#clock = clock;
    this.#onProgress = onProgress;
    this.#start = this.#since = clock();
  }

  /**
   * Ends the current stage and begins the next; does nothing when it has begun.
   *
   * @param stage the next
   * @param steps denoising steps to take; given on entering `denoise`, from where on they are known
   */
  enter(stage: Stage, steps = this.#steps): void {
    if (stage === this.#stage) return;
    this.#close();
    this.#stage = stage;
    this.#steps = steps;
    this.#onProgress({ stage, step: this.#step, steps });
  }

  /** Tells that `step` denoising steps are done; says nothing when that is no news. */
  step(step: number): void {
    if (step === this.#step) return;
    this.#step = step;
    this.#onProgress({ stage: "denoise", step, steps: this.#steps });
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
