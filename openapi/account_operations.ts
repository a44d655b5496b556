/** The operations on accounts, usage and prices. */

import { createRoute, z } from "@hono/zod-openapi";
import {
  AccountSchema,
  CreditRequestSchema,
  PriceRequestSchema,
  PriceSchema,
  UsageQuerySchema,
  UsageSchema,
} from "./account.ts";
import { answers, jsonProblems, storeProblems, tokenProblems } from "./answers.ts";
import * as examples from "./account_examples.ts";
import { IdempotencyKeySchema } from "./idempotency_key.ts";
import { needs } from "./scopes.ts";

/** `GET /v1/account` */
export const getAccount = createRoute({
  method: "get",
  path: "/v1/account",
  operationId: "getAccount",
  tags: ["account"],
  summary: "Tell the balance and the limits",
  security: needs("account:read"),
  responses: answers("The account of the token.", {
    "application/json": { schema: AccountSchema, examples: { account: { value: examples.account } } },
  }, [...tokenProblems, "token_of_end_user", ...storeProblems]),
});

/** `GET /v1/usage` */
export const getUsage = createRoute({
  method: "get",
  path: "/v1/usage",
  operationId: "getUsage",
  tags: ["account"],
  summary: "Tell what was charged, by day and by key",
  security: needs("account:read"),
  request: { query: UsageQuerySchema },
  responses: answers("The usage of the token's account.", {
    "application/json": { schema: UsageSchema, examples: { usage: { value: examples.usage } } },
  }, [
    ...tokenProblems,
    "invalid_request",
    "invalid_value",
    "out_of_range",
    "unknown_field",
    ...storeProblems,
  ]),
});

/** `POST /v1/generations/price` */
export const priceGeneration = createRoute({
  method: "post",
  path: "/v1/generations/price",
  operationId: "priceGeneration",
  tags: ["account"],
  summary: "Tell what a generation would cost",
  description:
    "Takes the fields of a generation, all of them optional; nothing is run and nothing is charged.",
  security: needs("account:read"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: PriceRequestSchema,
          examples: { four: { value: examples.priceRequest } },
        },
      },
    },
  },
  responses: answers("The price.", {
    "application/json": { schema: PriceSchema, examples: { price: { value: examples.price } } },
  }, [
    ...tokenProblems,
    ...jsonProblems.filter((code) => code !== "field_missing"),
    "image_missing",
    "invalid_value",
    "model_unknown",
    "class_noun_unknown",
    "scheduler_unknown",
    "prompt_empty",
    "prompt_too_long",
    "too_many_reference_images",
    "not_ready",
    "worker_failed",
    ...storeProblems,
  ]),
});

/** `POST /v1/accounts/{id}/credits` */
export const grantCredits = createRoute({
  method: "post",
  path: "/v1/accounts/{id}/credits",
  operationId: "grantCredits",
  tags: ["account"],
  summary: "Give an account credits, or take them",
  description: "For the operator. Send an `Idempotency-Key`, so that a retry gives nothing twice.",
  security: needs("accounts:write"),
  request: {
    params: z.object({
      id: z.string().min(1).max(255).openapi({
        param: { name: "id", in: "path" },
        description: "`sub` of its tokens",
      }),
    }),
    headers: z.object({
      "Idempotency-Key": IdempotencyKeySchema.optional().openapi({
        description: "the same key and request within 24 hours gives the first answer again",
        example: "5f0a6b1e-8e7a-4c55-9f0e-0a3f1c9d2b77",
      }),
    }),
    body: {
      required: true,
      content: {
        "application/json": {
          schema: CreditRequestSchema,
          examples: { topUp: { value: examples.creditRequest } },
        },
      },
    },
  },
  responses: answers("The account afterwards.", {
    "application/json": { schema: AccountSchema, examples: { account: { value: examples.account } } },
  }, [
    ...tokenProblems,
    ...jsonProblems,
    "invalid_value",
    "not_found",
    "insufficient_credits",
    "idempotency_key_invalid",
    "idempotency_key_reused",
    ...storeProblems,
  ]),
});
