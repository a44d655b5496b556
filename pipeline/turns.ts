import { PipelineError } from "./protocol.ts";

/** A stage that waits for the thread. */
interface Turn {
  readonly signal: AbortSignal | undefined;
  readonly work: () => Promise<void>;
  readonly leave: (error: unknown) => void;
}

/** How a stage stands in line. */
export interface TurnOptions {
  /** aborting it takes the stage out of the line */
  readonly signal?: AbortSignal;
  /** goes before stages that are not urgent, though never twice in a row while one of those waits */
  readonly urgent?: boolean;
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
  #urgent: Turn[] = [];
  #ordinary: Turn[] = [];
  #lastWasUrgent = false;

  /** stages that wait */
  get length(): number {
    return this.#urgent.length + this.#ordinary.length;
  }

  /**
   * Waits for its turn and runs the stage.
   *
   * @param work the stage
   * @param options urgency and cancellation
   * @returns what the stage gave
   * @throws {PipelineError} `canceled` or the signal's own reason; whatever the stage throws
   */
  take<T>(work: () => Promise<T>, { signal, urgent = false }: TurnOptions = {}): Promise<T> {
    if (signal?.aborted) return Promise.reject(reasonOf(signal));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const turn: Turn = { signal, work: () => work().then(resolve, reject), leave: reject };
    (urgent ? this.#urgent : this.#ordinary).push(turn);
    return promise;
  }

  /** Runs the stage whose turn it is, if there is one; canceled ones leave the line first. */
  async next(): Promise<void> {
    this.#urgent = this.#urgent.filter(staysInLine);
    this.#ordinary = this.#ordinary.filter(staysInLine);
    const urgentFirst = this.#ordinary.length === 0 || !this.#lastWasUrgent;
    const urgent = urgentFirst ? this.#urgent.shift() : undefined;
    this.#lastWasUrgent = urgent !== undefined;
    await (urgent ?? this.#ordinary.shift())?.work();
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
