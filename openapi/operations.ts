/** The operations of the API: where they are, who may call them, what they take and what they answer. */

import { createRoute, z } from "@hono/zod-openapi";
import { answers, bodyProblems, photoProblems, serviceProblems, tokenProblems } from "./answers.ts";
import * as examples from "./examples.ts";
import { FaceFormSchema, FaceReportSchema, FaceRequestSchema } from "./face.ts";
import { GenerationFormSchema, GenerationRequestSchema, GenerationSchema } from "./generation.ts";
import { HealthSchema, ReadinessSchema } from "./health.ts";
import { ModelListSchema } from "./model.ts";

/** What a token may allow, the words of its `scope` claim (RFC 8693, 4.2). */
export const scopes = {
  "generations:write": "make portraits",
  "faces:read": "check photos",
  "models:read": "list models",
} as const;

/** One word of a token's `scope`. */
export type Scope = keyof typeof scopes;

/** Name of the security scheme in the document. */
export const securityScheme = "bearer_token";

const needs = (scope: Scope) => [{ [securityScheme]: [scope] }];

/** `POST /v1/generations` */
export const createGeneration = createRoute({
  method: "post",
  path: "/v1/generations",
  operationId: "createGeneration",
  tags: ["generations"],
  summary: "Make portraits of a person",
  description:
    "Photos of one person and a prompt in, portraits of that person out. The answer comes when all " +
    "portraits are finished. With `Accept: text/event-stream` the answer is a stream of server-sent events " +
    "instead: `progress` (GenerationProgress) any number of times, then `succeeded` (Generation) or `failed` " +
    "(Problem). Closing the connection cancels the generation. Photos are not kept.",
  security: needs("generations:write"),
  request: {
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
    "field_missing",
    "invalid_value",
    "model_unknown",
    "class_noun_unknown",
    "scheduler_unknown",
    "prompt_empty",
    "prompt_too_long",
    "too_many_reference_images",
    ...photoProblems,
    "face_not_found",
    "multiple_faces",
    "face_too_small",
    ...serviceProblems,
  ]),
});

/** `POST /v1/faces` */
export const checkFace = createRoute({
  method: "post",
  path: "/v1/faces",
  operationId: "checkFace",
  tags: ["faces"],
  summary: "Tell whether a photo will do",
  description:
    "Finds the faces of a photo and says what would keep it from being a good reference. A photo " +
    "without a usable face is an answer, not a problem: see `usable` and `problems`. The photo is not kept.",
  security: needs("faces:read"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: FaceRequestSchema,
          examples: { photo: { summary: "a photo as base64", value: examples.faceRequest } },
        },
        "multipart/form-data": { schema: FaceFormSchema },
      },
    },
  },
  responses: answers("What the photo shows.", {
    "application/json": {
      schema: FaceReportSchema,
      examples: {
        usable: { summary: "one good face", value: examples.faceReport },
        unusable: { summary: "no face", value: examples.unusableFaceReport },
      },
    },
  }, [...tokenProblems, ...bodyProblems, ...photoProblems, ...serviceProblems]),
});

/** `GET /v1/models` */
export const listModels = createRoute({
  method: "get",
  path: "/v1/models",
  operationId: "listModels",
  tags: ["models"],
  summary: "List the models with their defaults and limits",
  security: needs("models:read"),
  responses: answers("The models; one in this release.", {
    "application/json": {
      schema: ModelListSchema,
      examples: { embedded: { summary: "the embedded model", value: { data: [examples.model] } } },
    },
  }, [...tokenProblems, "not_ready", "worker_failed", "internal_error"]),
});

/** `GET /healthz` */
export const getHealth = createRoute({
  method: "get",
  path: "/healthz",
  operationId: "getHealth",
  tags: ["health"],
  summary: "Tell that the process needs no restart",
  description:
    "A liveness probe: fine while the model is loading, a problem once the inference worker has died.",
  security: [],
  responses: answers("The process answers.", {
    "application/json": { schema: HealthSchema, examples: { ok: { value: { status: "ok" } } } },
  }, ["worker_failed", "internal_error"]),
});

/** `GET /readyz` */
export const getReadiness = createRoute({
  method: "get",
  path: "/readyz",
  operationId: "getReadiness",
  tags: ["health"],
  summary: "Tell that the model is loaded and warm",
  security: [],
  responses: answers("Generations will be served at once.", {
    "application/json": { schema: ReadinessSchema, examples: { ready: { value: { status: "ready" } } } },
  }, ["not_ready", "worker_failed", "internal_error"]),
});

/** Every operation of the contract. */
export const operations = [createGeneration, checkFace, listModels, getHealth, getReadiness] as const;
