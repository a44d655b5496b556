/**
 * The nearest whole number, of two equally near the even one, as Python's `round` and numpy's do (`Math.round` takes
 * halves up: with 16 steps of 1000 timesteps it would visit 812 where diffusers visits 811).
 *
 * @param value any finite number
 *
 * @example
 * ```ts
 * [0.5, 1.5, 2.4].map(roundHalfEven); // [0, 2, 2]
 * ```
 */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
