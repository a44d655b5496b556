/** What the webhook resources take and give. */

import { z } from "@hono/zod-openapi";
import { openEnum } from "./open_enum.ts";
import { problemCodes } from "./problems.ts";
import { storable } from "./storable.ts";

const endpoint = {
  id: z.string(),
  url: z.string(),
  created_at: z.iso.datetime(),
  enabled: z.boolean().describe("false once it has answered 410; a new secret switches it on again"),
};

/** Where webhooks go. */
export const WebhookEndpointSchema = z.strictObject(endpoint).openapi("WebhookEndpoint");

/** An endpoint, see {@linkcode WebhookEndpointSchema}. */
export type WebhookEndpointBody = z.infer<typeof WebhookEndpointSchema>;

/** An endpoint with its secret. Not an extension of the other: two strict schemas in an `allOf` refuse each other's fields. */
export const WebhookSecretSchema = z.strictObject({
  ...endpoint,
  secret: z.string().describe("`whsec_…`, verifies signatures as Standard Webhooks has it; not shown again"),
}).openapi("WebhookSecret");

/** An endpoint to be added. */
export const WebhookEndpointRequestSchema = z.strictObject({
  url: storable(z.string().max(2000)).describe("https, of the public internet"),
}).openapi("WebhookEndpointRequest");

/** All endpoints of the account. */
export const WebhookEndpointListSchema = z.strictObject({ data: z.array(WebhookEndpointSchema) })
  .openapi("WebhookEndpointList");

/** One message for one endpoint. */
export const WebhookMessageSchema = z.strictObject({
  id: z.string().describe("`webhook-id` of its requests"),
  endpoint_id: z.string(),
  type: z.string().describe("for example `generation.succeeded`"),
  state: z.enum(["pending", "delivered", "failed"]),
  attempts: z.int().min(0),
  last_result: z.string().nullable().describe(
    "HTTP status of the last answer, `no_answer`, `address_refused`, `endpoint_disabled` or `secret_unreadable`; of one " +
      "that was never tried, `too_many_pending` (the endpoint had too many waiting) or `expired` (its day was over)",
  ),
  created_at: z.iso.datetime(),
}).openapi("WebhookMessage");

/** Which messages are asked for. */
export const WebhookMessageQuerySchema = z.strictObject({
  state: WebhookMessageSchema.shape.state.optional().openapi({ description: "those in this state alone" }),
  before: storable(z.string().min(1).max(100)).optional().openapi({
    description: "`id` of a message of the account: those before it, for the next hundred",
  }),
});

/** A message, see {@linkcode WebhookMessageSchema}. */
export type WebhookMessageBody = z.infer<typeof WebhookMessageSchema>;

/** What is posted to an endpoint when a generation has ended. */
export const GenerationEndedSchema = z.strictObject({
  type: z.enum(["generation.succeeded", "generation.failed", "generation.canceled", "generation.expired"]),
  timestamp: z.iso.datetime().describe("when it ended"),
  data: z.strictObject({
    id: z.string().describe("of the generation: GET /v1/generations/{id} tells the rest"),
    status: z.enum(["succeeded", "failed", "canceled", "expired"]),
    model: z.string(),
    usage: z.strictObject({
      images: z.int().min(0),
      steps: z.int().min(0).describe("denoising steps over all images"),
    }).describe("zeros unless it succeeded"),
    credits: z.int().min(0).describe("what was charged").openapi({ format: "int64" }),
    error: z.strictObject({
      code: openEnum(problemCodes, "the problem's; codes may be added"),
      detail: z.string(),
    }).optional().describe("of one that failed"),
  }),
}).openapi("GenerationEnded");

/** What is posted, see {@linkcode GenerationEndedSchema}. */
export type GenerationEnded = z.infer<typeof GenerationEndedSchema>;

/** The account's messages. */
export const WebhookMessageListSchema = z.strictObject({
  data: z.array(WebhookMessageSchema).describe("at most 100, newest first; kept for 30 days"),
}).openapi("WebhookMessageList");
