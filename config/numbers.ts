/** Whole numbers of the environment. */

import { z } from "zod";

/**
 * A variable that holds a whole number.
 *
 * @param least smallest it may be
 * @param most greatest it may be
 * @returns a schema of its text that gives the number
 */
export function anyWholeNumber(least: number, most: number) {
  return z.string().regex(/^\d{1,12}$/, `must be a whole number from ${least} to ${most}`).transform(Number)
    .pipe(z.number().min(least, `must be at least ${least}`).max(most, `must be at most ${most}`));
}

/**
 * A variable that holds a whole number, or is not set.
 *
 * @param least smallest it may be
 * @param most greatest it may be
 * @param fallback what it is when it is not set
 * @returns a schema of its text that gives the number
 */
export function wholeNumber(least: number, most: number, fallback: number) {
  return anyWholeNumber(least, most).default(fallback);
}
