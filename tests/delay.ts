/** Lets time pass between two looks at something; never a substitute for looking. */

/**
 * Waits.
 *
 * @param milliseconds at least
 */
export function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(() => resolve(), milliseconds));
}
