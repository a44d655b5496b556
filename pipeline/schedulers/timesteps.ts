import { roundHalfEven } from "../round_half_even.ts";

/** Which training timesteps a generation visits. */

/** Ways to spread inference steps over training timesteps (Lin et al. 2023, table 2). */
export type TimestepSpacing = "leading" | "linspace" | "trailing";

/**
 * `count` numbers from `last` down to 0, both included, equally far apart; not rounded.
 *
 * @returns [count]; a `count` of 1 gives 0 alone, as numpy's linspace does
 */
export function linspaceTimesteps(last: number, count: number): number[] {
  if (count === 1) return [0];
  const step = last / (count - 1);
  return Array.from({ length: count }, (_, i) => i === 0 ? last : (count - 1 - i) * step);
}

/** Multiples of a whole step below `end`, from 0, shifted by `offset`, falling. */
export function leadingTimesteps(end: number, count: number, offset: number): number[] {
  const step = Math.floor(end / count);
  return Array.from({ length: count }, (_, i) => (count - 1 - i) * step + offset);
}

/**
 * Timesteps from `end` - 1 down in steps of `step`, rounded; they always hold the noisiest timestep, which a model
 * trained to zero terminal SNR needs.
 *
 * diffusers lets a rounding error of numpy's arange add a timestep of -1 for some counts (61 of 1000 for example); here
 * it never appears.
 */
export function trailingTimesteps(end: number, step: number): number[] {
  // numpy's arange takes the difference of its first two values for the step: at halves the last digit decides.
  const difference = end - step - end;
  const timesteps: number[] = [];
  for (let i = 0;; i++) {
    const timestep = roundHalfEven(end + i * difference) - 1;
    if (timestep < 0) return timesteps;
    timesteps.push(timestep);
  }
}

/**
 * Refuses step counts that the spacing cannot spread.
 *
 * @throws {RangeError} when `count` is not a whole number of 1 to `numTrainTimesteps`
 */
export function checkStepCount(count: number, numTrainTimesteps: number): void {
  if (!Number.isSafeInteger(count) || count < 1 || count > numTrainTimesteps) {
    throw new RangeError(
      `number of inference steps must be a whole number of 1 to ${numTrainTimesteps}, not ${count}`,
    );
  }
}
