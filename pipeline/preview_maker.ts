import { type Draft, type DraftStep, isDenoised } from "./denoise.ts";
import type { GenerationSurroundings } from "./generation.ts";
import type { Pipeline } from "./pipeline.ts";
import { decodePreview, encodePreview } from "./preview.ts";
import { type GeneratePreview, PipelineError } from "./protocol.ts";

/** A step that is to be shown. */
interface Moment {
  readonly taken: number;
  readonly step: DraftStep;
}

/**
 * Shows the pictures of one generation while they are denoised: every few steps one preview of each, decoded in a turn
 * of its own when no other stage waits. Meanwhile a newer step takes the place of the one that waits; a finished picture
 * is not previewed any more.
 *
 * @example
 * ```ts
 * const previews = new PreviewMaker(pipeline, surroundings);
 * previews.offer(draft, 0, step);
 * ```
 */
export class PreviewMaker {
  readonly #pipeline: Pipeline;
  readonly #surroundings: GenerationSurroundings;
  readonly #waiting = new Map<number, Moment>();

  /**
   * @param pipeline the loaded bundle
   * @param surroundings of the generation; its `previewInterval` of 0 turns previews off
   */
  constructor(pipeline: Pipeline, surroundings: GenerationSurroundings) {
    this.#pipeline = pipeline;
    this.#surroundings = surroundings;
  }

  /**
   * Shows the step if it is one to be shown; returns at once.
   *
   * @param draft the picture, after the step
   * @param index the picture's place in its generation
   * @param step what the step saw
   */
  offer(draft: Draft, index: number, step: DraftStep): void {
    const { previewInterval } = this.#surroundings;
    const taken = draft.scheduler.stepIndex;
    if (previewInterval === 0 || taken % previewInterval !== 0 || isDenoised(draft)) return;
    const inLine = this.#waiting.has(index);
    this.#waiting.set(index, { taken, step });
    if (!inLine) void this.#show(draft, index);
  }

  async #show(draft: Draft, index: number): Promise<void> {
    try {
      const preview = await this.#surroundings.takeSpareTurn(() => this.#make(draft, index));
      if (preview !== undefined) this.#surroundings.onEvent({ type: "preview", preview });
    } catch (error) {
      // the generation itself hears of its cancellation; a preview that fails is no reason to lose the portrait
      if (!(error instanceof PipelineError)) console.error("a preview failed:", error);
    }
  }

  /** Encodes within the turn as well: a preview that came after its portrait would be of no use. */
  async #make(draft: Draft, index: number): Promise<GeneratePreview | undefined> {
    const moment = this.#waiting.get(index);
    this.#waiting.delete(index);
    if (moment === undefined || isDenoised(draft)) return undefined;
    const { models, noiseLevels } = this.#pipeline;
    const picture = await decodePreview(moment.step, draft.latentDims, noiseLevels, models.vaeDecoder);
    const steps = draft.scheduler.timesteps.length;
    return { index, step: moment.taken, steps, ...await encodePreview(picture) };
  }
}
