/** How far {@linkcode chooseBatchLimit} goes. */
export interface BatchLimits {
  /** largest batch to try; a power of 2 */
  readonly most: number;
  /** longest step, in seconds: photos to check, newcomers and cancellations wait for it */
  readonly longestStep: number;
}

/** A batch twice as large counts as no worse when it makes at least this share of the pictures a second. */
const TOLERANCE = 0.9;

/**
 * Finds by trying how many pictures are best denoised together: sizes are doubled for as long as a larger batch makes
 * no fewer pictures a second (a larger one also lets more callers in at once) and its step is not too long.
 *
 * @param measure takes one step with a batch of this size and gives its seconds
 * @param limits where to stop
 * @returns a power of 2, 1 to `most`
 *
 * @example
 * ```ts
 * const maxBatch = await chooseBatchLimit((size) => timeStep(size), { most: 8, longestStep: 2 });
 * ```
 */
export async function chooseBatchLimit(
  measure: (size: number) => Promise<number>,
  { most, longestStep }: BatchLimits,
): Promise<number> {
  let [limit, best] = [1, 1 / await measure(1)];
  for (let size = 2; size <= most; size *= 2) {
    let seconds = await measure(size);
    // One slow run may be another program's fault.
    if (size / seconds < TOLERANCE * best) seconds = Math.min(seconds, await measure(size));
    if (size / seconds < TOLERANCE * best || seconds > longestStep) break;
    [limit, best] = [size, Math.max(best, size / seconds)];
  }
  return limit;
}
