/** What is the whole account's is not for a token of one end user. */

import { createMiddleware } from "hono/factory";
import type { AppEnv } from "../app_options.ts";
import { ProblemError } from "../problem_error.ts";

/**
 * Refuses a token with an `end_user`, whatever its scope: balance and webhooks tell of everybody's generations.
 *
 * For behind `authenticate`; throws `token_of_end_user`.
 *
 * @example
 * ```ts
 * app.get("/v1/account", admit(options, "account:read"), wholeAccount, answer);
 * ```
 */
export const wholeAccount = createMiddleware<AppEnv>(async (c, next) => {
  if (c.get("endUser") !== undefined) {
    throw new ProblemError(
      "token_of_end_user",
      "The token has an `end_user`, and this is the whole account's.",
    );
  }
  await next();
});
