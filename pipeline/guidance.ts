/** Classifier-free guidance, with scales of their own for the words and for the person. */

import type { Manifest } from "../models/manifest.ts";
import type { CleanParts } from "./schedulers/noise_levels.ts";

/** How far to go beyond what the model predicts by itself. */
export interface Guidance {
  /** of the words, 1 or more; 1 leaves the prediction as it is */
  readonly scale: number;
  /** of the person, 0 or more; null guides both together by {@linkcode scale} */
  readonly identityScale: number | null;
  /** phi of {@linkcode rescaleGuidance}, 0 to 1; 0 turns it off */
  readonly rescale: number;
}

/** Scales of the steps that begin a picture. */
export interface EarlyGuidance extends Pick<Guidance, "scale" | "identityScale"> {
  /** the last timestep they hold at, 0 to 1000 */
  readonly untilTimestep: number;
}

/**
 * Guidance of all of a picture's steps.
 *
 * View, expression and what is worn are settled while there is hardly more than noise, likeness and detail after that, so
 * the words may lead first and the person later (guidance that depends on the noise level: Kynkäänniemi et al. 2024; a
 * person who joins after the first steps: PhotoMaker, Li et al. 2024).
 */
export interface GuidanceSchedule extends Guidance {
  /** null where all steps are guided alike */
  readonly early: EarlyGuidance | null;
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
 * How a model guides where a request does not say otherwise.
 *
 * @param defaults of the model's manifest
 *
 * @example
 * ```ts
 * const { scale, early } = defaultGuidance(manifest.defaults);
 * ```
 */
export function defaultGuidance(defaults: Manifest["defaults"]): GuidanceSchedule & { early: EarlyGuidance } {
  const { guidance_scale: scale, identity_guidance_scale: identityScale, guidance_rescale: rescale } =
    defaults;
  return {
    scale,
    identityScale,
    rescale,
    early: {
      untilTimestep: defaults.early_guidance_until,
      scale: defaults.early_guidance_scale ?? scale,
      identityScale: defaults.early_identity_guidance_scale ?? identityScale,
    },
  };
}

/**
 * Guidance of one step.
 *
 * @param schedule of the picture
 * @param timestep t, 0 to 1000
 *
 * @example
 * ```ts
 * const early = { untilTimestep: 800, scale: 4, identityScale: 1 };
 * guidanceAt({ scale: 2, identityScale: null, rescale: 0, early }, 917).scale; // 4
 * ```
 */
export function guidanceAt({ early, ...late }: GuidanceSchedule, timestep: number): Guidance {
  if (early === null || timestep < early.untilTimestep) return late;
  return { ...late, scale: early.scale, identityScale: early.identityScale };
}

/**
 * The rows guidance needs, and what each counts in the sum.
 *
 * With words w, person p, and scales s of each (Brooks et al. 2023, equation 3, words before person):
 * `e(0, 0) + s_w (e(w, 0) - e(0, 0)) + s_p (e(w, p) - e(w, 0))`, which for equal scales is the guidance of Ho & Salimans
 * 2022. Person before words would lead away from what the person alone looks like in the photo, and so from the person:
 * smiling portraits had an ID-Sim of 0.07 so and have 0.21 (docs/training_log.md, eighth session). A row that would count
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
 * What the rows are told that a picture needs at any of its steps, in the order of {@linkcode guidanceRows}.
 *
 * @example
 * ```ts
 * rowKinds({ scale: 3, identityScale: null, rescale: 0, early: null }); // ["unconditional", "conditional"]
 * ```
 */
export function rowKinds(schedule: GuidanceSchedule): readonly GuidanceRowKind[] {
  const phases = [guidanceAt(schedule, Infinity), guidanceAt(schedule, -Infinity)];
  const needed = new Set(phases.flatMap((phase) => guidanceRows(phase).map(({ kind }) => kind)));
  return (["unconditional", "words", "conditional"] as const).filter((kind) => needed.has(kind));
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
 * const prediction = guide([unconditional, conditional], { scale: 3, identityScale: null, rescale: 0 });
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
  rows.forEach(({ weight }, index) => addWeighted(guided, predictions[index]!, weight));
  return guided;
}

function addWeighted(sum: Float32Array, prediction: Float32Array, weight: number): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += weight * prediction[i]!;
}

/** What a step's prediction is a prediction of. */
export interface RescaledStep extends CleanParts {
  /** z_t, as the UNet saw it */
  readonly noisy: Float32Array;
}

/**
 * Gives the clean latent that a guided prediction means the spread of the conditional one's again, so that strong guidance
 * does not overexpose (Lin et al. 2024, equations 15 and 16).
 *
 * They rescale the prediction itself, and so does diffusers. But what a smaller velocity, or less noise, leaves in z_t is
 * noise, and pictures had grain of it (docs/training_log.md, fourteenth session). Where z_t is noise alone, a velocity is
 * rescaled as theirs is.
 *
 * @param guided prediction after guidance
 * @param conditional prediction with words and person, same length
 * @param step z_t, and how z_0 comes of it
 * @param rescale phi: 0 leaves `guided` as it is, 1 gives it the whole of the spread
 * @returns a new array, or `guided` where nothing changes
 *
 * @example
 * ```ts
 * const level = { noisy, ...noiseLevels.cleanPartsAt(timestep) };
 * const prediction = rescaleGuidance(guided, conditional, level, 0.5);
 * ```
 */
export function rescaleGuidance(
  guided: Float32Array,
  conditional: Float32Array,
  { noisy, signal, noise }: RescaledStep,
  rescale: number,
): Float32Array {
  if (rescale === 0 || guided === conditional) return guided;
  const step = { noisy, signal, noise };
  const spread = cleanSpread(guided, step);
  const factor = spread === 0 ? 1 : rescale * cleanSpread(conditional, step) / spread + 1 - rescale;
  const kept = (1 - factor) * signal / noise;
  const rescaled = new Float32Array(guided.length);
  for (let i = 0; i < rescaled.length; i++) rescaled[i] = factor * guided[i]! + kept * noisy[i]!;
  return rescaled;
}

/**
 * Standard deviation of the clean latent that a prediction means, in one pass: of how far its numbers are from the first
 * one, which leaves no rounding error where they are all the same.
 */
function cleanSpread(prediction: Float32Array, { noisy, signal, noise }: RescaledStep): number {
  const count = prediction.length;
  const first = signal * noisy[0]! - noise * prediction[0]!;
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < count; i++) {
    const off = signal * noisy[i]! - noise * prediction[i]! - first;
    sum += off;
    squares += off * off;
  }
  return Math.sqrt(Math.max(0, squares - sum * sum / count) / count);
}
