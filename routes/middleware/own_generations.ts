/** Generations of one end user, where the token is for one. */

import type { MiddlewareHandler } from "hono";
import { findRow } from "../../jobs/read_generation.ts";
import { type AppEnv, type AppOptions, requireJobs } from "../app_options.ts";
import { accountOf } from "../generation_request.ts";
import { ProblemError } from "../problem_error.ts";

/**
 * Keeps a token with an `end_user` to what was made for that user: others' generations are as if they never were.
 *
 * @param options of the app
 * @returns middleware for behind `authenticate`, on paths with an `id`; throws `generation_not_found`
 */
export function ownGenerations(options: AppOptions): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const endUser = c.get("endUser");
    if (endUser !== undefined) {
      const row = await findRow(requireJobs(options).room, c.req.param("id") ?? "", accountOf(c));
      if (row?.end_user !== endUser) {
        throw new ProblemError(
          "generation_not_found",
          "This end user has no generation of this id, or no longer.",
        );
      }
    }
    await next();
  };
}
