/** What a generation costs. */

/** The operator's price list; amounts in credits, whole numbers. */
export interface PriceList {
  /** for a million pixels denoised once */
  readonly perMegapixelStep: number;
  /** the least a generation costs */
  readonly minimum: number;
}

/** How much work a generation is. */
export interface Work {
  /** pictures */
  readonly images: number;
  /** denoising steps of one picture */
  readonly steps: number;
  /** pixels of one picture */
  readonly pixels: number;
}

/**
 * The price of a generation: pixels x steps x images, rounded up to a whole credit, at least the minimum.
 *
 * @param prices the price list
 * @param work how much is asked for, positive whole numbers
 * @returns credits
 *
 * @example
 * ```ts
 * priceOf({ perMegapixelStep: 100, minimum: 1 }, { images: 1, steps: 20, pixels: 128 * 128 }); // 33
 * ```
 */
export function priceOf({ perMegapixelStep, minimum }: PriceList, { images, steps, pixels }: Work): number {
  // whole numbers up to the division: 2^53 is 8 pictures of 4096 x 4096 in 100 steps at 600,000 credits
  return Math.max(minimum, Math.ceil(images * steps * pixels * perMegapixelStep / 1_000_000));
}
