/** A generation in the words of OpenAI's image API. */

import type { Generation, GenerationEvent } from "../jobs/generation.ts";
import type {
  ImageEdit,
  ImageEditCompleted,
  ImageEditPartialImage,
  ImagesResponse,
} from "../openapi/image_edit.ts";
import { toOpenAiError } from "../openapi/openai_error.ts";
import { createProblem } from "../openapi/problem.ts";
import type { Manifest } from "../models/manifest.ts";
import { failureOf, generationPath, type ServerSentEvent } from "./generation_answer.ts";
import { commonDefaults } from "./generation_input.ts";
import { sizeOf } from "./image_edit_input.ts";

const noTokens: ImagesResponse["usage"] = {
  input_tokens: 0,
  output_tokens: 0,
  total_tokens: 0,
  input_tokens_details: { image_tokens: 0, text_tokens: 0 },
};

const unixTime = (date: Date) => Math.floor(date.getTime() / 1000);

function describe(edit: ImageEdit, manifest: Manifest) {
  return {
    background: "opaque",
    output_format: edit.output_format ?? commonDefaults.output_format,
    quality: edit.quality ?? "auto",
    size: sizeOf(manifest),
  } as const;
}

/**
 * Writes a finished edit.
 *
 * @param generation one that succeeded
 * @param edit what was asked
 * @param manifest of the model that made it
 * @param origin scheme and host the client knows the service by
 * @returns the body
 */
export function toImagesResponse(
  generation: Generation,
  edit: ImageEdit,
  manifest: Manifest,
  origin: string,
): ImagesResponse {
  const data = generation.images.map(({ index, data }) =>
    edit.response_format === "url"
      ? { url: `${origin}${generationPath(generation.id)}/images/${index}` }
      : { b64_json: data.toBase64() }
  );
  return { created: unixTime(generation.createdAt), data, ...describe(edit, manifest), usage: noTokens };
}

/**
 * Writes the `error` event of an edit that fails after its stream has begun.
 *
 * @param generation one that failed or was canceled
 * @param id of the event
 */
function toErrorEvent(generation: Generation, id: string): ServerSentEvent {
  const { code, message, extras: { details = {} } } = failureOf(generation);
  const problem = createProblem(code, { detail: message, requestId: generation.requestId, details });
  return { event: "error", data: JSON.stringify({ error: toOpenAiError(problem) }), id };
}

/**
 * Makes a writer of an edit's events.
 *
 * @param edit what was asked
 * @param manifest of the model that makes it
 * @param created when it was asked for
 * @returns a function that writes previews, pictures and failures, and gives undefined for what OpenAI's API has no
 * event for; one for each stream, since it counts previews
 */
export function imageEditEvents(
  edit: ImageEdit,
  manifest: Manifest,
  created: Date,
): (event: GenerationEvent) => ServerSentEvent | undefined {
  let previews = 0;
  const told = { created_at: unixTime(created), ...describe(edit, manifest) };
  return (event) => {
    const id = String(event.number);
    if (event.type === "preview") {
      const { width, height, data } = event.preview;
      const partial: ImageEditPartialImage = {
        type: "image_edit.partial_image",
        partial_image_index: previews++,
        b64_json: data.toBase64(),
        ...told,
        output_format: "jpeg",
        size: `${width}x${height}`,
      };
      return { event: partial.type, data: JSON.stringify(partial), id };
    }
    if (event.type === "image") {
      const b64_json = event.image.data.toBase64();
      const completed: ImageEditCompleted = {
        type: "image_edit.completed",
        b64_json,
        ...told,
        usage: noTokens,
      };
      return { event: completed.type, data: JSON.stringify(completed), id };
    }
    return event.type === "failed" ? toErrorEvent(event.generation, id) : undefined;
  };
}
