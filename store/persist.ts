/** Sees an outage of the database through. */

import { isStoreUnavailable } from "./unavailable.ts";

/** How long to go on. */
export interface PersistOptions {
  /** ends it; a try that is under way is waited for */
  readonly signal: AbortSignal;
  /** milliseconds between two tries */
  readonly pause?: number;
}

/**
 * Tries until the database is there again.
 *
 * @param work to be done; must be safe to repeat, as a commit's answer may be what was lost
 * @param options when to give up
 * @returns what `work` returned
 * @throws whatever `work` threw that is no outage, or the outage once the signal is aborted
 */
export async function persist<T>(
  work: () => Promise<T>,
  { signal, pause = 500 }: PersistOptions,
): Promise<T> {
  while (true) {
    try {
      return await work();
    } catch (error) {
      if (!isStoreUnavailable(error) || signal.aborted) throw error;
      await rest(pause, signal);
      if (signal.aborted) throw error;
    }
  }
}

/**
 * Waits.
 *
 * @param milliseconds how long
 * @param signal ends the wait at once
 */
export async function rest(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = () => resolve();
  const timer = setTimeout(wake, milliseconds);
  signal.addEventListener("abort", wake, { once: true });
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", wake);
}
