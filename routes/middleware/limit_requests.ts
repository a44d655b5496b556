/** Requests a minute and account (draft-ietf-httpapi-ratelimit-headers-10), counted over all instances. */

import type { MiddlewareHandler } from "hono";
import { takeRequest } from "../../jobs/rate_limit.ts";
import { isStoreUnavailable } from "../../store/unavailable.ts";
import type { AppEnv, AppOptions } from "../app_options.ts";
import { accountOf } from "../generation_request.ts";
import { ProblemError } from "../problem_error.ts";

/**
 * Counts a request, and refuses it when the account has sent too many. While the database is not there nothing is
 * counted: what needs it is refused anyhow, the rest goes on.
 *
 * @param options of the app
 * @returns middleware for behind `authenticate`; sets `RateLimit` and `RateLimit-Policy`, or throws `rate_limit_exceeded`
 */
export function limitRequests(options: AppOptions): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const jobs = options.jobs();
    if (jobs === undefined) return await next();
    const { room, requestsPerMinute } = jobs;
    const limit = await takeRequest(room.store.queries, accountOf(c), requestsPerMinute).catch((error) => {
      if (isStoreUnavailable(error)) return undefined;
      throw error;
    });
    if (limit === undefined) return await next();
    const headers = {
      "RateLimit-Policy": `"requests";q=${requestsPerMinute};w=60`,
      "RateLimit": `"requests";r=${limit.remaining};t=${limit.seconds}`,
    };
    if (!limit.allowed) {
      throw new ProblemError(
        "rate_limit_exceeded",
        `The account may send ${requestsPerMinute} requests a minute.`,
        {
          details: { limit: requestsPerMinute, retry_after_seconds: limit.seconds },
          headers: { ...headers, "Retry-After": String(limit.seconds) },
        },
      );
    }
    for (const [name, value] of Object.entries(headers)) c.header(name, value);
    await next();
  };
}
