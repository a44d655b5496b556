/** The operations on an account's own keys. */

import { createRoute, z } from "@hono/zod-openapi";
import {
  type AccountKeyBody,
  AccountKeyListSchema,
  AccountKeyRequestSchema,
  AccountKeySchema,
} from "./account_key.ts";
import { answers, emptyAnswers, jsonProblems, storeProblems, tokenProblems } from "./answers.ts";
import { needs } from "./scopes.ts";

const security = needs("keys:write");
const tags = ["account"];

const example: AccountKeyBody = {
  id: "key_2c9b3a52-4f0d-4a6e-9a57-6c1d8f3b7e20",
  name: "backend",
  algorithm: "ES256",
  scope: "generations:write generations:read faces:read",
  issuer: "urn:idadapter:account-keys",
  audience: "idadapter",
  created_at: "2026-01-29T10:00:00.000Z",
};

const requestExample: z.input<typeof AccountKeyRequestSchema> = {
  name: example.name,
  scope: example.scope,
  // RFC 7517, appendix A.1
  jwk: {
    kty: "EC",
    crv: "P-256",
    x: "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    y: "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
  },
};

/** `POST /v1/account/keys` */
export const addAccountKey = createRoute({
  method: "post",
  path: "/v1/account/keys",
  operationId: "addAccountKey",
  tags,
  summary: "Add a public key",
  description:
    "JWTs signed with its private half are accepted for this account alone, for an hour at most each. " +
    "An account has at most 10 keys; to rotate one, add the next, sign with it, and revoke the old one.",
  security,
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: AccountKeyRequestSchema,
          examples: { key: { value: requestExample } },
        },
      },
    },
  },
  responses: answers("The key.", {
    "application/json": { schema: AccountKeySchema, examples: { key: { value: example } } },
  }, [
    ...tokenProblems,
    ...jsonProblems,
    "invalid_value",
    "private_key_refused",
    "too_many_account_keys",
    ...storeProblems,
  ]),
});

/** `GET /v1/account/keys` */
export const listAccountKeys = createRoute({
  method: "get",
  path: "/v1/account/keys",
  operationId: "listAccountKeys",
  tags,
  summary: "List the account's keys",
  security,
  responses: answers("The keys that are not revoked, oldest first.", {
    "application/json": { schema: AccountKeyListSchema, examples: { one: { value: { data: [example] } } } },
  }, [...tokenProblems, ...storeProblems]),
});

/** `DELETE /v1/account/keys/{id}` */
export const revokeAccountKey = createRoute({
  method: "delete",
  path: "/v1/account/keys/{id}",
  operationId: "revokeAccountKey",
  tags,
  summary: "Revoke a key",
  description: "Its tokens are refused from the next request on. Generations that they asked for go on.",
  security,
  request: {
    params: z.object({
      id: z.string().openapi({ param: { name: "id", in: "path" }, description: "`id` of the key" }),
    }),
  },
  responses: emptyAnswers("The key is revoked.", [
    ...tokenProblems,
    "account_key_not_found",
    ...storeProblems,
  ]),
});
