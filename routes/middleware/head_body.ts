/** Frees what an answer to HEAD would have sent. */

import { createMiddleware } from "hono/factory";
import type { AppEnv } from "../app_options.ts";

/**
 * Cancels the body of an answer to HEAD: Hono makes that of GET and drops its body unread, so that a file would stay open
 * and a stream of events would wait for its reader for ever.
 *
 * @example
 * ```ts
 * app.use(cancelHeadBody);
 * ```
 */
export const cancelHeadBody = createMiddleware<AppEnv>(async (c, next) => {
  await next();
  if (c.req.method === "HEAD") await c.res.body?.cancel();
});
