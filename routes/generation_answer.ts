/** A generation as the API shows it. */

import { type Generation, type GenerationEvent, isFinal } from "../jobs/generation.ts";
import type * as api from "../openapi/generation.ts";
import { createProblem, type Problem } from "../openapi/problem.ts";
import type { GeneratedImage, StageTimings } from "../pipeline/protocol.ts";
import { ProblemError } from "./problem_error.ts";

const round = (value: number) => Math.round(value * 10_000) / 10_000;

function roundTimings(
  { queue, references, prompt, denoise, decode, encode, total }: StageTimings,
): api.Generation["timings"] {
  return {
    queue: round(queue),
    references: round(references),
    prompt: round(prompt),
    denoise: round(denoise),
    decode: round(decode),
    encode: round(encode),
    total: round(total),
  };
}

/**
 * The address of a generation.
 *
 * @param id its name
 */
export function generationPath(id: string): string {
  return `/v1/generations/${id}`;
}

/** How a picture's file is told: its bytes beside its address, or the address alone. */
export type ImageForm = "data" | "url";

function toImage(id: string, image: GeneratedImage, form: ImageForm): api.GenerationImage {
  return {
    index: image.index,
    seed: image.seed,
    content_type: image.contentType,
    width: image.width,
    height: image.height,
    url: `${generationPath(id)}/images/${image.index}`,
    ...(form === "data" ? { data: image.data.toBase64() } : {}),
    identity_similarity: image.identitySimilarity === null ? null : round(image.identitySimilarity),
  };
}

/**
 * Why a generation has no portraits, as an error to answer with.
 *
 * @param generation one that failed or was canceled
 */
export function failureOf({ failure }: Generation): ProblemError {
  const { code, message, details } = failure ??
    { code: "internal_error", message: "There is no reason.", details: {} };
  return new ProblemError(code, message, { details });
}

function toProblem(generation: Generation): Problem {
  const { code, message, extras: { details = {} } } = failureOf(generation);
  return createProblem(code, { detail: message, requestId: generation.requestId, details });
}

/**
 * Writes a generation in whatever state.
 *
 * @param generation as it is
 * @param form how finished pictures are told
 * @returns the body
 */
export function toState(generation: Generation, form: ImageForm): api.GenerationState {
  const { id, model, status, progress, timings, expiresAt } = generation;
  const identifying = { id, model, created_at: generation.createdAt.toISOString() };
  const images = generation.images.map((image) => toImage(id, image, form));
  const expires_at = (expiresAt ?? generation.createdAt).toISOString();
  if (status === "queued" || status === "running") return { ...identifying, status, progress, images };
  if (status !== "succeeded") return { ...identifying, status, error: toProblem(generation), expires_at };
  return {
    ...identifying,
    status,
    images,
    timings: roundTimings(timings!),
    usage: { images: images.length, steps: images.length * generation.numInferenceSteps },
    expires_at,
  };
}

/** One server-sent event. */
export interface ServerSentEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string;
}

/**
 * Writes an event.
 *
 * @param id the generation's name
 * @param event what happened
 * @returns what is sent; `id` is what `Last-Event-ID` brings back
 */
export function toServerSentEvent(id: string, event: GenerationEvent): ServerSentEvent {
  return { event: event.type, data: JSON.stringify(dataOf(id, event)), id: String(event.number) };
}

function dataOf(id: string, event: GenerationEvent): unknown {
  switch (event.type) {
    case "progress":
      return event.progress;
    case "preview": {
      const { index, step, steps, contentType, width, height, data } = event.preview;
      const preview = { index, step, steps, content_type: contentType, width, height, data: data.toBase64() };
      return preview satisfies api.GenerationPreview;
    }
    case "image":
      return toImage(id, event.image, "data");
    default:
      return isFinal(event.generation) && event.type === "failed"
        ? toProblem(event.generation)
        : toState(event.generation, "url");
  }
}
