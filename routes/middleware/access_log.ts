/** One log line a request. */

import type { MiddlewareHandler } from "hono";
import { routePath } from "hono/route";
import type { AppEnv } from "../app_options.ts";
import type { Logger } from "../logger.ts";

/**
 * Logs each request when its answer begins. Writes the route's pattern, not the address as it was sent: people put
 * tokens into addresses.
 *
 * @param log where lines go
 * @param clock milliseconds, monotonic
 * @returns the middleware
 */
export function accessLog(
  log: Logger,
  clock: () => number = () => performance.now(),
): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const started = clock();
    await next();
    const { status } = c.res;
    const code = c.get("problemCode");
    log(status >= 500 ? "error" : "info", "request", {
      request_id: c.get("requestId"),
      method: c.req.method,
      route: code === "not_found" ? "unknown" : routePath(c, -1),
      status,
      code,
      subject: c.get("subject"),
      milliseconds: Math.round((clock() - started) * 10) / 10,
    });
  };
}
