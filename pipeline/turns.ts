import { PipelineError } from "./protocol.ts";

/** A stage that waits for the thread. */
interface Turn {
  readonly signal: AbortSignal | undefined;
  readonly work: () => Promise<void>;
  readonly leave: (error: unknown) => void;
}

/**
 * Who goes first: `urgent` stages before `ordinary` ones, though never twice in a row while one of those waits; `spare`
 * ones only when nobody else is in line.
 */
export type Rank = "urgent" | "ordinary" | "spare";

/** How a stage stands in line. */
export interface TurnOptions {
  /** aborting it takes the stage out of the line */
  readonly signal?: AbortSignal;
  /** `ordinary` when left out */
  readonly rank?: Rank;
}

/**
 * The line of stages (encode a photo, encode a prompt, decode a picture, ...) that wait for the worker's thread. The
 * engine lets one go between two denoising steps, so that no step is late by more than one stage.
 *
 * @example
 * ```ts
 * const turns = new Turns();
 * const image = turns.take(() => models.vaeDecoder(latent));
 * await turns.next();
 * await image;
 * ```
 */
export class Turns {
  readonly #lines: Record<Rank, Turn[]> = { urgent: [], ordinary: [], spare: [] };
  #lastWasUrgent = false;

  /** stages that wait */
  get length(): number {
    return Object.values(this.#lines).reduce((sum, line) => sum + line.length, 0);
  }

  /**
   * Waits for its turn and runs the stage.
   *
   * @param work the stage
   * @param options rank and cancellation
   * @returns what the stage gave
   * @throws {PipelineError} `canceled` or the signal's own reason; whatever the stage throws
   */
  take<T>(work: () => Promise<T>, { signal, rank = "ordinary" }: TurnOptions = {}): Promise<T> {
    if (signal?.aborted) return Promise.reject(reasonOf(signal));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    // `Promise.try`: one that throws before it has a promise must not end whoever gives it its turn
    const turn: Turn = { signal, work: () => Promise.try(work).then(resolve, reject), leave: reject };
    this.#lines[rank].push(turn);
    return promise;
  }

  /** Runs the stage whose turn it is, if there is one; canceled ones leave the line first. */
  async next(): Promise<void> {
    const lines = this.#lines;
    for (const rank of ["urgent", "ordinary", "spare"] as const) {
      lines[rank] = lines[rank].filter(staysInLine);
    }
    const urgentFirst = lines.ordinary.length === 0 || !this.#lastWasUrgent;
    const urgent = urgentFirst ? lines.urgent.shift() : undefined;
    this.#lastWasUrgent = urgent !== undefined;
    await (urgent ?? lines.ordinary.shift() ?? lines.spare.shift())?.work();
  }
}

function staysInLine({ signal, leave }: Turn): boolean {
  if (!signal?.aborted) return true;
  leave(reasonOf(signal));
  return false;
}

/**
 * Why a generation was ended from outside.
 *
 * @param signal an aborted one
 * @returns its reason when that is a `PipelineError`, else `canceled`
 *
 * @example
 * ```ts
 * if (signal.aborted) throw reasonOf(signal);
 * ```
 */
export function reasonOf({ reason }: AbortSignal): PipelineError {
  return reason instanceof PipelineError
    ? reason
    : new PipelineError("canceled", "The generation was canceled");
}
