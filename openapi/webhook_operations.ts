/** The operations on webhook endpoints and messages. */

import { createRoute, z } from "@hono/zod-openapi";
import * as examples from "./account_examples.ts";
import { answers, emptyAnswers, jsonProblems, storeProblems, tokenProblems } from "./answers.ts";
import { needs } from "./scopes.ts";
import {
  WebhookEndpointListSchema,
  WebhookEndpointRequestSchema,
  WebhookMessageListSchema,
  WebhookMessageQuerySchema,
  WebhookMessageSchema,
  WebhookSecretSchema,
} from "./webhook.ts";

const security = needs("webhooks:write");
const tags = ["webhooks"];
const params = z.object({
  id: z.string().openapi({
    param: { name: "id", in: "path" },
    description: "`id` of the endpoint or message",
  }),
});
const newSecret = {
  "application/json": {
    schema: WebhookSecretSchema,
    examples: { endpoint: { value: examples.newEndpoint } },
  },
};

/** `POST /v1/webhook_endpoints` */
export const addWebhookEndpoint = createRoute({
  method: "post",
  path: "/v1/webhook_endpoints",
  operationId: "addWebhookEndpoint",
  tags,
  summary: "Have the ends of generations told to an address",
  description:
    "Each end of a generation of the account is posted there (GenerationEnded), signed as Standard Webhooks has it, as " +
    "`generation.succeeded`, `.failed`, `.canceled` or `.expired`. What is not answered with 2xx is tried again for a " +
    "day; redirects are not followed. An account has at most 10 endpoints, and 1000 messages that wait, the same share " +
    "for each: further ones are not sent, and are listed as failed (`too_many_pending`).",
  security,
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: WebhookEndpointRequestSchema,
          examples: { endpoint: { value: { url: examples.endpoint.url } } },
        },
      },
    },
  },
  responses: answers("The endpoint and its secret.", newSecret, [
    ...tokenProblems,
    "token_of_end_user",
    ...jsonProblems,
    "invalid_value",
    "webhook_url_refused",
    "too_many_webhook_endpoints",
    ...storeProblems,
  ]),
});

/** `GET /v1/webhook_endpoints` */
export const listWebhookEndpoints = createRoute({
  method: "get",
  path: "/v1/webhook_endpoints",
  operationId: "listWebhookEndpoints",
  tags,
  summary: "List the account's endpoints",
  security,
  responses: answers("The endpoints, oldest first.", {
    "application/json": {
      schema: WebhookEndpointListSchema,
      examples: { one: { value: { data: [examples.endpoint] } } },
    },
  }, [...tokenProblems, "token_of_end_user", ...storeProblems]),
});

/** `DELETE /v1/webhook_endpoints/{id}` */
export const removeWebhookEndpoint = createRoute({
  method: "delete",
  path: "/v1/webhook_endpoints/{id}",
  operationId: "removeWebhookEndpoint",
  tags,
  summary: "Remove an endpoint and its messages",
  security,
  request: { params },
  responses: emptyAnswers("It is gone.", [
    ...tokenProblems,
    "token_of_end_user",
    "webhook_not_found",
    ...storeProblems,
  ]),
});

/** `POST /v1/webhook_endpoints/{id}/rotate_secret` */
export const rotateWebhookSecret = createRoute({
  method: "post",
  path: "/v1/webhook_endpoints/{id}/rotate_secret",
  operationId: "rotateWebhookSecret",
  tags,
  summary: "Give an endpoint a new secret",
  description:
    "For 24 hours, requests are signed with the new secret and the one before, and, when that one is replaced within " +
    "its 24 hours, with the oldest of them too: a secret whose answer was lost can be replaced at once.",
  security,
  request: { params },
  responses: answers("The endpoint and its new secret.", newSecret, [
    ...tokenProblems,
    "token_of_end_user",
    "webhook_not_found",
    ...storeProblems,
  ]),
});

/** `GET /v1/webhook_messages` */
export const listWebhookMessages = createRoute({
  method: "get",
  path: "/v1/webhook_messages",
  operationId: "listWebhookMessages",
  tags,
  summary: "List what was sent, and what was not",
  security,
  request: { query: WebhookMessageQuerySchema },
  responses: answers("The latest messages, or those before one.", {
    "application/json": {
      schema: WebhookMessageListSchema,
      examples: { one: { value: { data: [examples.message] } } },
    },
  }, [
    ...tokenProblems,
    "token_of_end_user",
    "invalid_request",
    "invalid_value",
    "out_of_range",
    "unknown_field",
    ...storeProblems,
  ]),
});

/** `POST /v1/webhook_messages/{id}/replay` */
export const replayWebhookMessage = createRoute({
  method: "post",
  path: "/v1/webhook_messages/{id}/replay",
  operationId: "replayWebhookMessage",
  tags,
  summary: "Send a message again",
  description:
    "As the next one for its endpoint, in place of a try that waits, with the same id and body; its signature and " +
    "timestamp are new. While the endpoint has too many messages waiting, one that is not among them is not sent " +
    "(`rate_limit_exceeded`).",
  security,
  request: { params },
  responses: answers("The message, on its way.", {
    "application/json": {
      schema: WebhookMessageSchema,
      examples: { pending: { value: { ...examples.message, state: "pending" as const } } },
    },
  }, [...tokenProblems, "token_of_end_user", "webhook_not_found", ...storeProblems]),
});
