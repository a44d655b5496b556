/** Examples of the account's and the webhooks' part of the contract; a test holds each against its schema. */

import type { z } from "@hono/zod-openapi";
import type {
  AccountBody,
  CreditRequestSchema,
  PriceRequestSchema,
  PriceSchema,
  UsageSchema,
} from "./account.ts";
import type { WebhookEndpointBody, WebhookMessageBody, WebhookSecretSchema } from "./webhook.ts";

/** A balance. */
export const account: AccountBody = {
  id: "acme",
  available: 99_967,
  reserved: 0,
  spent: 33,
  limits: { requests_per_minute: 600, generations_at_once: 32 },
};

/** A day's use. */
export const usage: z.infer<typeof UsageSchema> = {
  from: "2026-01-01",
  to: "2026-01-30",
  data: [{ day: "2026-01-29", key: "acme-web", generations: 1, images: 1, steps: 20, credits: 33 }],
  total: { generations: 1, images: 1, steps: 20, credits: 33 },
};

/** Four portraits. */
export const priceRequest: z.input<typeof PriceRequestSchema> = { num_images: 4, num_inference_steps: 20 };

/** What they cost. */
export const price: z.infer<typeof PriceSchema> = { price: 132, available: 99_967 };

/** A top-up. */
export const creditRequest: z.input<typeof CreditRequestSchema> = {
  amount: 100_000,
  kind: "top_up",
  note: "invoice 2026-17",
};

/** An endpoint. */
export const endpoint: WebhookEndpointBody = {
  id: "whe_6d5a2b80-1a57-4d8e-8c9e-7e0f6b8b6a11",
  url: "https://example.com/hooks/portraits",
  created_at: "2026-01-29T10:00:00.000Z",
  enabled: true,
};

/** The same, just made. */
export const newEndpoint: z.infer<typeof WebhookSecretSchema> = {
  ...endpoint,
  secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDN2pTvZ5y7nE=",
};

/** A message that has arrived. */
export const message: WebhookMessageBody = {
  id: "msg_2b8a8f64-73cf-4d64-93a3-3f2f5a6f0c55",
  endpoint_id: endpoint.id,
  type: "generation.succeeded",
  state: "delivered",
  attempts: 1,
  last_result: "200",
  created_at: "2026-01-29T10:05:00.000Z",
};
