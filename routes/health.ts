/** `GET /healthz` and `GET /readyz`: the platform's probes, open to all. */

import { Hono } from "hono";
import { getHealth, getReadiness } from "../openapi/operations.ts";
import { type AppEnv, type AppOptions, requireJobs, requireModel, requireRunning } from "./app_options.ts";

/**
 * The probes.
 *
 * @param options of the app
 * @returns a Hono app with two routes
 */
export function health(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get(getHealth.path, (c) => {
    // loading is health; a dead worker is not, and only a new process mends it
    if (options.model() !== undefined) requireModel(options);
    c.header("Cache-Control", "no-store");
    return c.json({ status: "ok" });
  });
  app.get(getReadiness.path, (c) => {
    requireRunning(options);
    requireJobs(options);
    c.header("Cache-Control", "no-store");
    return c.json({ status: "ready" });
  });
  return app;
}
