/** What every sampler looks like to the engine. */

/**
 * The sampler of one generation: a plan of timesteps and how to go from each to the next. It counts its own steps and
 * some keep earlier predictions, so every generation has its own; samplers are never shared.
 *
 * Samples and predictions are flattened float32 latents of one length. Every array a method returns is new and no
 * method keeps or changes its arguments.
 */
export interface Scheduler {
  /** what the UNet is told at each step, falling but where a restart begins; its length is the number of steps to take */
  readonly timesteps: readonly number[];
  /** standard deviation of the noise to begin with; multiply `randn` by it */
  readonly initNoiseSigma: number;
  /** steps taken so far, 0 to `timesteps.length` */
  readonly stepIndex: number;
  /**
   * The sample as the UNet wants it at a step.
   *
   * @param i index into {@linkcode timesteps}
   * @throws {RangeError} when there is no such step
   */
  scaleModelInput(sample: Float32Array, i: number): Float32Array<ArrayBuffer>;
  /**
   * Takes the next step.
   *
   * @param prediction the UNet's output, after guidance, for the scaled sample at `timesteps[stepIndex]`
   * @param sample the sample before scaling
   * @returns the less noisy sample; after the last step, the finished latent
   * @throws {RangeError} when all steps are taken or the lengths differ
   */
  step(prediction: Float32Array, sample: Float32Array): Float32Array<ArrayBuffer>;
}

/** Counts the steps of one generation and refuses misuse; the samplers build on it. */
export class StepCounter {
  #taken = 0;
  /** @param total number of steps of the plan */
  constructor(readonly total: number) {}

  /** steps taken so far */
  get taken(): number {
    return this.#taken;
  }

  /** @throws {RangeError} when `i` is no index of a step */
  check(i: number): void {
    if (!Number.isInteger(i) || i < 0 || i >= this.total) {
      throw new RangeError(`step ${i} is not in 0..${this.total - 1}`);
    }
  }

  /**
   * Counts one step.
   *
   * @returns its index
   * @throws {RangeError} when all steps are taken or the lengths differ
   */
  next(prediction: Float32Array, sample: Float32Array): number {
    if (this.#taken >= this.total) throw new RangeError(`all ${this.total} steps are taken`);
    if (prediction.length !== sample.length) {
      throw new RangeError(
        `prediction of ${prediction.length} and sample of ${sample.length} numbers do not fit`,
      );
    }
    return this.#taken++;
  }
}
