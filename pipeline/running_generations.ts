import type { InferenceLoad } from "./inference.ts";
import { PipelineError } from "./protocol.ts";

/** Share of the newest generation in the mean of their seconds. */
const NEWEST = 0.2;

/** What a caller is told to wait when the queue is full, in seconds. */
const SHORTEST_WAIT = 1;
const LONGEST_WAIT = 60;

/**
 * Counts the generations that were taken and are not finished, and says when there is no room for another.
 *
 * @example
 * ```ts
 * const generations = new RunningGenerations(8, 64);
 * generations.requireRoom();
 * generations.add(id);
 * ```
 */
export class RunningGenerations {
  /** most generations that denoise at once */
  maxBatch: number;
  readonly #maxQueue: number;
  readonly #clock: () => number;
  /** when each began, in milliseconds; undefined while it waits */
  readonly #began = new Map<number, number | undefined>();
  #meanSeconds = SHORTEST_WAIT;

  /**
   * @param maxBatch most generations that denoise at once
   * @param maxQueue most that may wait
   * @param clock milliseconds from any origin
   */
  constructor(maxBatch: number, maxQueue: number, clock: () => number = () => performance.now()) {
    this.maxBatch = maxBatch;
    this.#maxQueue = maxQueue;
    this.#clock = clock;
  }

  /** how many there are */
  get load(): InferenceLoad {
    const running = [...this.#began.values()].filter((began) => began !== undefined).length;
    return {
      running,
      waiting: this.#began.size - running,
      maxBatch: this.maxBatch,
      maxQueue: this.#maxQueue,
    };
  }

  /**
   * Refuses one more when as many are under way as may run and wait.
   *
   * @throws {PipelineError} `queue_full`; `details.retry_after_seconds` is when the next is likely to have finished
   */
  requireRoom(): void {
    const limit = this.maxBatch + this.#maxQueue;
    if (this.#began.size < limit) return;
    const next = Math.ceil(this.#meanSeconds / this.maxBatch);
    throw new PipelineError("queue_full", "As many generations run and wait as this service takes", {
      limit,
      retry_after_seconds: Math.min(Math.max(next, SHORTEST_WAIT), LONGEST_WAIT),
    });
  }

  /** One was taken. */
  add(id: number): void {
    this.#began.set(id, undefined);
  }

  /** It left the queue. */
  start(id: number): void {
    this.#began.set(id, this.#clock());
  }

  /** It ended, however. */
  remove(id: number): void {
    const began = this.#began.get(id);
    this.#began.delete(id);
    if (began === undefined) return;
    this.#meanSeconds += NEWEST * ((this.#clock() - began) / 1000 - this.#meanSeconds);
  }
}
