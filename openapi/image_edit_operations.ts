/** The operation that speaks OpenAI's image API. */

import { createRoute, z } from "@hono/zod-openapi";
import {
  answers,
  bodyProblems,
  generationFieldProblems,
  generationProblems,
  serviceProblems,
  tokenProblems,
} from "./answers.ts";
import * as examples from "./image_edit_examples.ts";
import { ImageEditFormSchema, ImagesResponseSchema } from "./image_edit.ts";
import { IdempotencyKeySchema } from "./idempotency_key.ts";
import { needs } from "./scopes.ts";

const formProblems = bodyProblems.filter((code) => !["json_malformed", "base64_invalid"].includes(code));

/** `POST /v1/images/edits` */
export const createImageEdit = createRoute({
  method: "post",
  path: "/v1/images/edits",
  operationId: "createImageEdit",
  tags: ["openai"],
  summary: "Make portraits of a person, by OpenAI's image API",
  description:
    "What POST /v1/generations does, for clients that were written for OpenAI: the same job, price, limits and " +
    "`Idempotency-Key`, with OpenAI's names. `Content-Location` tells the generation. With `stream` the answer is a " +
    "stream of `image_edit.partial_image` (ImageEditPartialImage) and `image_edit.completed` (ImageEditCompleted) " +
    "events, and an `error` event should it fail. Problems carry an `error` member as OpenAI's clients expect it, and " +
    "those of fields and photos have the status 400.",
  security: needs("generations:write"),
  request: {
    headers: z.object({
      "Idempotency-Key": IdempotencyKeySchema.optional().openapi({
        description: "see POST /v1/generations",
        example: "8e03978e-40d5-43dd-bc93-6894a57f9324",
      }),
    }),
    body: { required: true, content: { "multipart/form-data": { schema: ImageEditFormSchema } } },
  },
  responses: answers(
    "The finished portraits.",
    {
      "application/json": {
        schema: ImagesResponseSchema,
        examples: { portrait: { summary: "one portrait", value: examples.imagesResponse } },
      },
      "text/event-stream": {
        schema: z.string().describe("server-sent events (WHATWG HTML, 9.2)"),
        examples: { events: { summary: "a preview, then the result", value: examples.imageEditEvents } },
      },
    },
    [
      ...tokenProblems,
      ...formProblems,
      ...generationFieldProblems,
      "generation_not_found",
      ...generationProblems,
      ...serviceProblems,
    ],
    {},
    true,
  ),
});
