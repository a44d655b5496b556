/** The operations on generations. */

import { createRoute, z } from "@hono/zod-openapi";
import {
  answers,
  bodyProblems,
  emptyAnswers,
  generationFieldProblems,
  generationProblems,
  serviceProblems,
  tokenProblems,
} from "./answers.ts";
import * as examples from "./examples.ts";
import {
  GenerationFormSchema,
  GenerationRequestSchema,
  GenerationSchema,
  GenerationStateSchema,
  PendingGenerationSchema,
} from "./generation.ts";
import { IdempotencyKeySchema } from "./idempotency_key.ts";
import { needs } from "./scopes.ts";

/** `POST /v1/generations` */
export const createGeneration = createRoute({
  method: "post",
  path: "/v1/generations",
  operationId: "createGeneration",
  tags: ["generations"],
  summary: "Make portraits of a person",
  description:
    "Photos of one person and a prompt in, portraits of that person out. The answer comes when all " +
    "portraits are finished; closing the connection before cancels the generation. With `Accept: " +
    "text/event-stream` the answer is a stream of events instead, see GET /v1/generations/{id}/events. With " +
    "`Prefer: respond-async` (RFC 7240) the answer comes at once, or after `wait` seconds, and the generation goes on " +
    "without the connection; together with `Accept: text/event-stream`, its events are streamed and the stream can be " +
    "taken up again. Photos and prompt are kept, encrypted, until the generation has ended, and nothing of them after that.",
  security: needs("generations:write"),
  request: {
    headers: z.object({
      "Idempotency-Key": IdempotencyKeySchema.optional().openapi({
        description:
          "sent again with the same key and request within 24 hours, the answer is the first one's and " +
          "nothing is charged again (draft-ietf-httpapi-idempotency-key-header); the generation then goes on when the " +
          "connection is closed",
        example: "8e03978e-40d5-43dd-bc93-6894a57f9324",
      }),
      Prefer: z.string().optional().openapi({
        description: "`respond-async`, and with it `wait=SECONDS`, 300 at most, to wait that long first",
        example: "respond-async, wait=10",
      }),
    }),
    body: {
      required: true,
      content: {
        "application/json": {
          schema: GenerationRequestSchema,
          examples: {
            short: { summary: "the least it needs", value: examples.shortGenerationRequest },
            full: { summary: "every field", value: examples.fullGenerationRequest },
          },
        },
        "multipart/form-data": { schema: GenerationFormSchema },
      },
    },
  },
  responses: answers("The finished portraits.", {
    "application/json": {
      schema: GenerationSchema,
      examples: { portrait: { summary: "one portrait", value: examples.generation } },
    },
    "text/event-stream": {
      schema: z.string().describe("server-sent events (WHATWG HTML, 9.2)"),
      examples: { events: { summary: "progress, then the result", value: examples.generationEvents } },
    },
  }, [
    ...tokenProblems,
    ...bodyProblems,
    ...generationFieldProblems,
    "generation_not_found",
    ...generationProblems,
    ...serviceProblems,
  ], {
    202: {
      description: "Taken on: `Prefer: respond-async` was sent.",
      headers: {
        "Location": { description: "where the generation is", schema: { type: "string" } },
        "Retry-After": { description: "seconds to wait before asking", schema: { type: "string" } },
        "Preference-Applied": { description: "`respond-async`", schema: { type: "string" } },
      },
      content: {
        "application/json": {
          schema: PendingGenerationSchema,
          examples: { queued: { summary: "taken on", value: examples.queuedGeneration } },
        },
      },
    },
  }),
});

const generationId = z.object({
  id: z.string().openapi({ param: { name: "id", in: "path" }, description: "`id` of a generation" }),
});

const generationProblemsOfOne = [
  ...tokenProblems,
  "generation_not_found",
  "store_unavailable",
  "image_store_unavailable",
  "internal_error",
] as const;

const generationStates = {
  "application/json": {
    schema: GenerationStateSchema,
    examples: {
      running: { summary: "under way", value: examples.runningGeneration },
      succeeded: { summary: "finished", value: examples.finishedGeneration },
      canceled: { summary: "canceled", value: examples.canceledGeneration },
    },
  },
};

/** `GET /v1/generations/{id}` */
export const getGeneration = createRoute({
  method: "get",
  path: "/v1/generations/{id}",
  operationId: "getGeneration",
  tags: ["generations"],
  summary: "Tell how a generation is",
  description: "Images come as addresses. `Retry-After` is sent until it is finished.",
  security: needs("generations:read"),
  request: { params: generationId },
  responses: answers("The generation.", generationStates, generationProblemsOfOne),
});

/** `DELETE /v1/generations/{id}` */
export const deleteGeneration = createRoute({
  method: "delete",
  path: "/v1/generations/{id}",
  operationId: "deleteGeneration",
  tags: ["generations"],
  summary: "Erase a generation and its images",
  description: "Cancels it first when it is not finished.",
  security: needs("generations:write"),
  request: { params: generationId },
  responses: emptyAnswers("It is gone.", generationProblemsOfOne),
});

/** `GET /v1/generations/{id}/events` */
export const watchGeneration = createRoute({
  method: "get",
  path: "/v1/generations/{id}/events",
  operationId: "watchGeneration",
  tags: ["generations"],
  summary: "Watch a generation",
  description:
    "Server-sent events, from the first or from the one after `Last-Event-ID`: `queued` and `started` " +
    "(PendingGeneration), any number of `progress` (GenerationProgress) and `preview` (GenerationPreview, only the " +
    "newest of each image is kept), an `image` (GenerationImage with its bytes) for each portrait, and last " +
    "`succeeded` (Generation) or `failed` (Problem). Closing this connection cancels nothing.",
  security: needs("generations:read"),
  request: {
    params: generationId,
    headers: z.object({
      "Last-Event-ID": z.string().optional().openapi({
        description: "`id` of the last event that came",
        example: "7",
      }),
    }),
  },
  responses: answers(
    "The events.",
    {
      "text/event-stream": {
        schema: z.string().describe("server-sent events (WHATWG HTML, 9.2)"),
        examples: { events: { summary: "progress, then the result", value: examples.generationEvents } },
      },
    },
    generationProblemsOfOne,
    { 204: { description: "The last event was the final one: there is nothing to take up again." } },
  ),
});

/** `POST /v1/generations/{id}/cancel` */
export const cancelGeneration = createRoute({
  method: "post",
  path: "/v1/generations/{id}/cancel",
  operationId: "cancelGeneration",
  tags: ["generations"],
  summary: "Cancel a generation",
  description:
    "It ends before its next denoising step. Canceling one that is canceled already changes nothing.",
  security: needs("generations:write"),
  request: { params: generationId },
  responses: answers("The canceled generation.", {
    "application/json": {
      schema: GenerationStateSchema,
      examples: { canceled: { summary: "canceled", value: examples.canceledGeneration } },
    },
  }, [...generationProblemsOfOne, "generation_finished"]),
});

const imageFile = z.string().openapi({ format: "binary" });

/** `GET /v1/generations/{id}/images/{index}` */
export const getGenerationImage = createRoute({
  method: "get",
  path: "/v1/generations/{id}/images/{index}",
  operationId: "getGenerationImage",
  tags: ["generations"],
  summary: "Get one portrait",
  description:
    "There once the generation has succeeded. It comes as it was made, or in the format that `Accept` " +
    "prefers by name; each format has a strong `ETag` of its own, for `If-None-Match`, and for `If-Range` with one `Range`.",
  security: needs("generations:read"),
  request: {
    params: generationId.extend({
      index: z.string().regex(/^\d{1,3}$/).openapi({
        param: { name: "index", in: "path" },
        description: "which image, from 0",
      }),
    }),
    headers: z.object({
      "If-None-Match": z.string().optional().openapi({ description: "an `ETag` that came before" }),
      Range: z.string().optional().openapi({
        description: "one range of bytes (RFC 9110, 14.2); several are answered with the whole file",
        example: "bytes=1024-",
      }),
      "If-Range": z.string().optional().openapi({
        description: "the `ETag` of the part one has: another file comes whole",
      }),
    }),
  },
  responses: answers(
    "The image file.",
    {
      "image/png": { schema: imageFile },
      "image/jpeg": { schema: imageFile },
      "image/webp": { schema: imageFile },
      "image/avif": { schema: imageFile },
    },
    [...generationProblemsOfOne, "image_not_found", "range_not_satisfiable"],
    {
      206: {
        description: "The part that `Range` asks for.",
        headers: {
          "Content-Range": { description: "which bytes of how many", schema: { type: "string" } },
        },
        content: {
          "image/png": { schema: imageFile },
          "image/jpeg": { schema: imageFile },
          "image/webp": { schema: imageFile },
          "image/avif": { schema: imageFile },
        },
      },
      304: { description: "The image is the one that `If-None-Match` names." },
    },
  ),
});
