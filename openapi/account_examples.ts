/** Examples of the account's and the webhooks' part of the contract; a test holds each against its schema. */

import type { z } from "@hono/zod-openapi";
import type {
  AccountBody,
  CreditRequestSchema,
  PriceRequestSchema,
  PriceSchema,
  UsageSchema,
} from "./account.ts";
import type {
  GenerationEnded,
  WebhookEndpointBody,
  WebhookMessageBody,
  WebhookSecretSchema,
} from "./webhook.ts";

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

/** What that message held. */
export const ended: GenerationEnded = {
  type: "generation.succeeded",
  timestamp: "2026-01-29T10:00:05.000Z",
  data: {
    id: "gen_0d9c3a6e-5f7b-4f0e-9a53-8f6f4d1f0a77",
    status: "succeeded",
    model: "idadapter-mini",
    usage: { images: 1, steps: 20 },
    credits: 33,
  },
};

/** The same of a generation that failed. */
export const endedInVain: GenerationEnded = {
  ...ended,
  type: "generation.failed",
  data: {
    ...ended.data,
    status: "failed",
    usage: { images: 0, steps: 0 },
    credits: 0,
    error: {
      code: "face_not_found",
      detail: "No face was found: send a photo that shows one person's face.",
    },
  },
};
