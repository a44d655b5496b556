/** `POST /v1/generations` */

import { Hono } from "hono";
import { accepts } from "hono/accepts";
import { createGeneration } from "../openapi/generation_operations.ts";
import { type AppEnv, type AppOptions, requireJobs } from "./app_options.ts";
import { replyLater, replyWithEvents, replyWithResult } from "./generation_reply.ts";
import { readGenerationRequest } from "./generation_request.ts";
import { admit } from "./middleware/admit.ts";
import { limitBodySize } from "./middleware/body_size.ts";
import { readIdempotencyKey } from "./middleware/idempotency_key.ts";
import { readPreferences } from "./prefer.ts";

/**
 * The resource that makes portraits.
 *
 * @param options of the app
 * @returns a Hono app with one route
 */
export function generations(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post(
    createGeneration.path,
    admit(options, "generations:write"),
    limitBodySize(options.maxBodyBytes),
    readIdempotencyKey(),
    async (c) => {
      const request = await readGenerationRequest(c, options);
      const { respondAsync, waitSeconds } = readPreferences(c.req.header("Prefer"));
      const wanted = accepts(c, {
        header: "Accept",
        supports: ["application/json", "text/event-stream"],
        default: "application/json",
      });
      const generation = await requireJobs(options).generations.submit(request);
      if (wanted === "text/event-stream") return await replyWithEvents(c, generation, options, respondAsync);
      if (respondAsync) return await replyLater(c, generation, options, waitSeconds);
      return await replyWithResult(c, generation, options);
    },
  );
  return app;
}
