/** What the probes of a platform get. */

import { z } from "@hono/zod-openapi";

/** The process answers. */
export const HealthSchema = z.strictObject({ status: z.literal("ok") }).openapi("Health");

/** The model is loaded and warm. */
export const ReadinessSchema = z.strictObject({ status: z.literal("ready") }).openapi("Readiness");
