/** Classifier-free guidance, with scales of their own for the words and for the person. */

/** How far to go beyond what the model predicts by itself. */
export interface Guidance {
  /** of the words, 1 or more; 1 leaves the prediction as it is */
  readonly scale: number;
  /** of the person, 0 or more; null guides both together by {@linkcode scale} */
  readonly identityScale: number | null;
  /** phi of {@linkcode rescaleGuidance}, 0 to 1; 0 turns it off */
  readonly rescale: number;
}

/**
 * What a row of the UNet's batch is told: neither words nor person (`unconditional`), the words alone (`words`), or both
 * (`conditional`). Training drops words and person separately, so that the model knows all three.
 */
export type GuidanceRowKind = "unconditional" | "words" | "conditional";

/** One of the predictions that guidance adds up. */
export interface GuidanceRow {
  readonly kind: GuidanceRowKind;
  readonly weight: number;
}

/**
 * The rows guidance needs, and what each counts in the sum.
 *
 * With words w, person p, and scales s of each (Brooks et al. 2023, equation 3, words before person):
 * `e(0, 0) + s_w (e(w, 0) - e(0, 0)) + s_p (e(w, p) - e(w, 0))`, which for equal scales is the guidance of Ho & Salimans
 * 2022. Person before words would lead away from what the person alone looks like in the photo, and so from the person:
 * smiling portraits had an ID-Sim of 0.07 so and have 0.21 (docs/training.md, eighth session). A row that would count
 * nothing is left out: two rows in the common case, one without guidance.
 *
 * @returns in the order above, the conditional row last; the weights add up to 1
 *
 * @example
 * ```ts
 * guidanceRows({ scale: 3, identityScale: null, rescale: 0 });
 * // [{ kind: "unconditional", weight: -2 }, { kind: "conditional", weight: 3 }]
 * ```
 */
export function guidanceRows({ scale, identityScale }: Guidance): readonly GuidanceRow[] {
  const person = identityScale ?? scale;
  const rows: GuidanceRow[] = [
    { kind: "unconditional", weight: 1 - scale },
    { kind: "words", weight: scale - person },
    { kind: "conditional", weight: person },
  ];
  // the conditional row is kept: what it predicts is what rescaling goes by
  return rows.filter(({ kind, weight }) => weight !== 0 || kind === "conditional");
}

/**
 * Combines the predictions of one picture.
 *
 * @param predictions a row each of {@linkcode guidanceRows}, flattened, in its order
 * @param guidance what the rows were made for
 * @returns a new array, or the prediction itself when there is but one
 * @throws {RangeError} when there are not as many rows as guidance needs or their lengths differ
 *
 * @example
 * ```ts
 * const prediction = guide([unconditional, conditional], { scale: 3, identityScale: null, rescale: 0.7 });
 * ```
 */
export function guide(predictions: readonly Float32Array[], guidance: Guidance): Float32Array {
  const rows = guidanceRows(guidance);
  const conditional = predictions.at(-1);
  if (conditional === undefined || predictions.length !== rows.length) {
    throw new RangeError(`guidance needs ${rows.length} predictions, got ${predictions.length}`);
  }
  if (predictions.some(({ length }) => length !== conditional.length)) {
    throw new RangeError(
      `predictions of ${predictions.map(({ length }) => length)} numbers cannot be combined`,
    );
  }
  if (predictions.length === 1) return conditional;
  const guided = new Float32Array(conditional.length);
  for (const [index, { weight }] of rows.entries()) {
    const prediction = predictions[index]!;
    for (let i = 0; i < guided.length; i++) guided[i]! += weight * prediction[i]!;
  }
  return guidance.rescale === 0 ? guided : rescaleGuidance(guided, conditional, guidance.rescale);
}

/**
 * Gives a guided prediction the spread of the conditional one again, so that strong guidance does not overexpose
 * (Lin et al. 2024, equations 15 and 16).
 *
 * @param guided prediction after guidance
 * @param conditional prediction with words and person, same length
 * @param rescale phi: 0 leaves `guided` as it is, 1 gives it the whole of the spread; the paper takes 0.7
 * @returns a new array
 *
 * @example
 * ```ts
 * rescaleGuidance(Float32Array.of(-4, 4), Float32Array.of(-1, 1), 0.5); // [-2.5, 2.5]
 * ```
 */
export function rescaleGuidance(
  guided: Float32Array,
  conditional: Float32Array,
  rescale: number,
): Float32Array<ArrayBuffer> {
  const spread = standardDeviation(guided);
  const factor = spread === 0 ? 1 : standardDeviation(conditional) / spread;
  return Float32Array.from(guided, (value) => value * (rescale * factor + 1 - rescale));
}

function standardDeviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}
