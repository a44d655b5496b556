/**
 * Peak signal-to-noise ratio of two pictures of 8 bits, in decibels; infinite when they are equal.
 *
 * @throws {RangeError} when they differ in size
 *
 * @example
 * ```ts
 * psnr(Uint8Array.of(0, 10), Uint8Array.of(0, 11)); // 51.1
 * ```
 */
export function psnr(one: Uint8Array, other: Uint8Array): number {
  if (one.length !== other.length) {
    throw new RangeError(`pictures of ${one.length} and ${other.length} bytes`);
  }
  const squares = one.reduce((sum, value, index) => sum + (value - other[index]!) ** 2, 0);
  return 10 * Math.log10(255 ** 2 * one.length / squares);
}
