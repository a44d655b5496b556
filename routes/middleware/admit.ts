/** What every request with a token goes through before its handler. */

import type { MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import type { Scope } from "../../openapi/scopes.ts";
import type { AppEnv, AppOptions } from "../app_options.ts";
import { authenticate } from "./authenticate.ts";
import { limitRequests } from "./limit_requests.ts";

/**
 * Lets a request through whose token is good, allows the operation, and does not come too often.
 *
 * @param options of the app
 * @param scope what the token's `scope` must hold
 * @returns middleware
 */
export function admit(options: AppOptions, scope: Scope): MiddlewareHandler<AppEnv> {
  return every(authenticate(options.verifyToken, scope), limitRequests(options)) as MiddlewareHandler<AppEnv>;
}
