/** `POST /v1/generations` */

import { Hono } from "hono";
import { accepts } from "hono/accepts";
import { createGeneration } from "../openapi/operations.ts";
import type { AppEnv, AppOptions } from "./app_options.ts";
import { readJob } from "./generation_job.ts";
import { replyWithEvents, replyWithJson } from "./generation_reply.ts";
import { authenticate } from "./middleware/authenticate.ts";
import { limitBodySize } from "./middleware/body_size.ts";

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
    authenticate(options.verifyToken, "generations:write"),
    limitBodySize(options.maxBodyBytes),
    async (c) => {
      const job = await readJob(c, options);
      const wanted = accepts(c, {
        header: "Accept",
        supports: ["application/json", "text/event-stream"],
        default: "application/json",
      });
      return wanted === "text/event-stream"
        ? replyWithEvents(c, job, options)
        : await replyWithJson(c, job, options);
    },
  );
  return app;
}
