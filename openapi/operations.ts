/** The operations of the API: where they are, who may call them, what they take and what they answer. */

import { createRoute, z } from "@hono/zod-openapi";
import { getAccount, getUsage, grantCredits, priceGeneration } from "./account_operations.ts";
import { addAccountKey, listAccountKeys, revokeAccountKey } from "./account_key_operations.ts";
import {
  answers,
  bodyProblems,
  photoProblems,
  serviceProblems,
  storeProblems,
  tokenProblems,
} from "./answers.ts";
import * as examples from "./examples.ts";
import { FaceFormSchema, FaceReportSchema, FaceRequestSchema } from "./face.ts";
import {
  cancelGeneration,
  createGeneration,
  deleteGeneration,
  getGeneration,
  getGenerationImage,
  watchGeneration,
} from "./generation_operations.ts";
import { createImageEdit } from "./image_edit_operations.ts";
import { HealthSchema, ReadinessSchema } from "./health.ts";
import { ModelListSchema } from "./model.ts";
import { needs } from "./scopes.ts";
import {
  addWebhookEndpoint,
  listWebhookEndpoints,
  listWebhookMessages,
  removeWebhookEndpoint,
  replayWebhookMessage,
  rotateWebhookSecret,
} from "./webhook_operations.ts";

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
      examples: {
        embedded: { summary: "the embedded model", value: { object: "list", data: [examples.model] } },
      },
    },
  }, [...tokenProblems, "not_ready", "worker_failed", ...storeProblems]),
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
  }, ["not_ready", "shutting_down", "worker_failed", "store_unavailable", "internal_error"]),
});

/** `GET /metrics` */
export const getMetrics = createRoute({
  method: "get",
  path: "/metrics",
  operationId: "getMetrics",
  tags: ["health"],
  summary: "Tell figures of the process",
  description: "For Prometheus: queue, batches, seconds by stage, images, failures. Nothing of any request.",
  security: [],
  responses: answers("The figures.", {
    "text/plain": { schema: z.string().describe("Prometheus text format 0.0.4") },
  }, ["internal_error"]),
});

/** Every operation of the contract. */
export const operations = [
  createGeneration,
  getGeneration,
  deleteGeneration,
  watchGeneration,
  cancelGeneration,
  getGenerationImage,
  createImageEdit,
  priceGeneration,
  getAccount,
  getUsage,
  grantCredits,
  addAccountKey,
  listAccountKeys,
  revokeAccountKey,
  addWebhookEndpoint,
  listWebhookEndpoints,
  removeWebhookEndpoint,
  rotateWebhookSecret,
  listWebhookMessages,
  replayWebhookMessage,
  checkFace,
  listModels,
  getHealth,
  getReadiness,
  getMetrics,
] as const;
