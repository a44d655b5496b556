/** Classifier-free guidance. */

/**
 * Combines the two predictions of classifier-free guidance (Ho & Salimans 2022, as diffusers writes it):
 * `unconditional + scale * (conditional - unconditional)`.
 *
 * @param unconditional prediction without the prompt, any shape, flattened
 * @param conditional prediction with the prompt, same length
 * @param scale guidance scale; 1 gives the conditional prediction, 0 the unconditional one
 * @returns a new array; neither argument is changed
 * @throws {RangeError} when the lengths differ or the scale is not finite
 */
export function applyGuidance(
  unconditional: Float32Array,
  conditional: Float32Array,
  scale: number,
): Float32Array<ArrayBuffer> {
  if (unconditional.length !== conditional.length) {
    throw new RangeError(
      `predictions of ${unconditional.length} and ${conditional.length} numbers cannot be combined`,
    );
  }
  if (!Number.isFinite(scale)) throw new RangeError(`guidance scale ${scale} is not finite`);
  const guided = new Float32Array(conditional.length);
  for (let i = 0; i < guided.length; i++) {
    guided[i] = unconditional[i]! + scale * (conditional[i]! - unconditional[i]!);
  }
  return guided;
}
