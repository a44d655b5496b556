/** `GET /metrics`: figures for Prometheus, open like the probes. */

import { Hono } from "hono";
import { getMetrics } from "../openapi/operations.ts";
import type { AppEnv, AppOptions } from "./app_options.ts";

/**
 * The figures.
 *
 * @param options of the app
 * @returns a Hono app with one route
 */
export function metrics(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get(getMetrics.path, async (c) => {
    const { contentType } = options.metrics;
    return c.body(await options.metrics.metrics(), 200, {
      "Content-Type": contentType,
      "Cache-Control": "no-store",
    });
  });
  return app;
}
