/** What every request with a token goes through before its handler. */

import type { MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import type { Scope } from "../../openapi/scopes.ts";
import { type AppEnv, type AppOptions, requireJobs } from "../app_options.ts";
import { authenticate } from "./authenticate.ts";
import { byIssuer } from "../tokens/by_issuer.ts";
import { createAccountTokenVerifier } from "../tokens/verify_account_token.ts";
import type { TokenVerifier } from "../tokens/verify_token.ts";
import { limitRequests } from "./limit_requests.ts";

/** Account keys and everybody else's have issuers of their own: which one a token names decides who judges it. */
function verifierOf(options: AppOptions): TokenVerifier {
  return byIssuer({
    [options.accountTokens.issuer]: (token) =>
      createAccountTokenVerifier(options.accountTokens, requireJobs(options).room.store.queries)(token),
  }, options.verifyToken);
}

/**
 * Lets a request through whose token is good, allows the operation, and does not come too often.
 *
 * @param options of the app
 * @param scope what the token's `scope` must hold
 * @returns middleware
 */
export function admit(options: AppOptions, scope: Scope): MiddlewareHandler<AppEnv> {
  return every(authenticate(verifierOf(options), scope), limitRequests(options)) as MiddlewareHandler<AppEnv>;
}
