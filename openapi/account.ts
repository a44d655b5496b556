/** What the account's resources take and give: balance, usage, prices. */

import { z } from "@hono/zod-openapi";
import { GenerationRequestSchema, wide } from "./generation.ts";
import { storable } from "./storable.ts";

const credits = z.int().min(0).describe("credits").openapi(wide);

/** An account's balance. */
export const AccountSchema = z.strictObject({
  id: z.string().describe("`sub` of the token"),
  available: credits.describe("credits that can be spent"),
  reserved: credits.describe("credits held for generations that are not finished"),
  spent: credits.describe("credits charged so far"),
  limits: z.strictObject({
    requests_per_minute: z.int().min(1),
    generations_at_once: z.int().min(1).describe("queued and running together"),
  }),
}).openapi("Account");

/** An account's balance, see {@linkcode AccountSchema}. */
export type AccountBody = z.infer<typeof AccountSchema>;

const usageSum = {
  generations: z.int().min(0).describe("that succeeded").openapi(wide),
  images: z.int().min(0).openapi(wide),
  steps: z.int().min(0).describe("denoising steps over all images").openapi(wide),
  credits,
};

/** What was charged on one day by one key. */
const UsageOfDaySchema = z.strictObject({
  day: z.iso.date().describe("UTC; a generation counts on the day it was finished"),
  key: z.string().describe(
    "the client the token was issued to: its `client_id`, `azp` or `sub`; the key's id for one that an account signed",
  ),
  ...usageSum,
}).openapi("UsageOfDay");

/** What an account has used. */
export const UsageSchema = z.strictObject({
  from: z.iso.date(),
  to: z.iso.date(),
  data: z.array(UsageOfDaySchema).describe("by day, then by key; days without a charge are left out"),
  total: z.strictObject(usageSum).openapi("UsageTotal"),
}).openapi("Usage");

/** Of Unix time; PostgreSQL does not know every earlier year that a date may name. */
const day = z.iso.date().refine((text) => text >= "1970-01-01", {
  error: "must be 1970-01-01 or later",
  params: { code: "out_of_range" },
}).optional();

/** Which days usage is asked for. */
export const UsageQuerySchema = z.strictObject({
  from: day.openapi({
    description: "first day, UTC, from 1970 on; at most 365 days before `to`, default 29",
  }),
  to: day.openapi({ description: "last day, UTC, from 1970 on; default today" }),
  end_user: storable(z.string().min(1).max(128)).optional().openapi({
    description: "counts what tokens with this `end_user` asked for alone",
  }),
});

/** A generation whose price is asked for: any fields of one, photos and words are not needed. */
export const PriceRequestSchema = GenerationRequestSchema.partial().openapi("PriceRequest");

/** What a generation would cost. */
export const PriceSchema = z.strictObject({
  price: credits.describe("credits the generation costs when it succeeds; it costs nothing else"),
  available: credits.optional().describe("credits the account has; left out for a token with an `end_user`"),
}).openapi("Price");

/** Credits the operator gives or takes. */
export const CreditRequestSchema = z.strictObject({
  amount: z.int().min(-1_000_000_000_000).max(1_000_000_000_000)
    .describe("credits; negative takes them back, at most what is available").openapi(wide),
  kind: z.enum(["top_up", "adjustment"]).describe("top_up: paid for; adjustment: anything else"),
  note: storable(z.string().max(500)).optional().describe("why, for the books"),
}).openapi("CreditRequest");
