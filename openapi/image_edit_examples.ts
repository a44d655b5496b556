/** Examples of the operation that speaks OpenAI's image API; a test holds each against its schema. */

import type { ImageEditCompleted, ImageEditPartialImage, ImagesResponse } from "./image_edit.ts";
import { tinyPng } from "./examples.ts";

const picture = { background: "opaque", output_format: "png", quality: "auto", size: "128x128" } as const;
const created = 1_772_366_400;
const usage: ImagesResponse["usage"] = {
  input_tokens: 0,
  output_tokens: 0,
  total_tokens: 0,
  input_tokens_details: { image_tokens: 0, text_tokens: 0 },
};

/** One portrait. */
export const imagesResponse: ImagesResponse = { created, data: [{ b64_json: tinyPng }], ...picture, usage };

const partial: ImageEditPartialImage = {
  type: "image_edit.partial_image",
  partial_image_index: 0,
  b64_json: tinyPng,
  created_at: created,
  ...picture,
  output_format: "jpeg",
  size: "64x64",
};

const completed: ImageEditCompleted = {
  type: "image_edit.completed",
  b64_json: tinyPng,
  created_at: created,
  ...picture,
  usage,
};

/** What the stream of the same looks like. */
export const imageEditEvents = [partial, completed]
  .map((event, index) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\nid: ${index + 7}\n`)
  .join("\n");
