/** Bearer tokens (RFC 6750) before a handler. */

import type { MiddlewareHandler } from "hono";
import type { Scope } from "../../openapi/scopes.ts";
import { problemCatalogue, type ProblemCode } from "../../openapi/problems.ts";
import type { AppEnv } from "../app_options.ts";
import { challenge } from "../challenge.ts";
import { ProblemError } from "../problem_error.ts";
import { TokenError, type TokenVerifier } from "../tokens/verify_token.ts";

/** RFC 6750, 2.1: the scheme in any case, one token68. */
const bearerCredentials = /^bearer +([A-Za-z0-9\-._~+/]+=*) *$/i;

function refusal(code: ProblemCode, detail: string, scope: Scope): ProblemError {
  const description = problemCatalogue[code].title;
  const attributes: Record<string, string> = code === "token_missing"
    // RFC 6750, 3.1: no error information for a request that carries no credentials
    ? { scope }
    : code === "scope_missing"
    ? { error: "insufficient_scope", error_description: description, scope }
    : { error: "invalid_token", error_description: description };
  return new ProblemError(code, detail, { headers: { "WWW-Authenticate": challenge(attributes) } });
}

/**
 * Lets a request through when its token is good and allows the operation.
 *
 * @param verifyToken judges the token
 * @param scope what the token's `scope` must hold
 * @returns middleware that sets `subject`, or throws a {@linkcode ProblemError}: 401 with the reason, or 403
 */
export function authenticate(verifyToken: TokenVerifier, scope: Scope): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const header = c.req.header("Authorization");
    if (header === undefined || !/^bearer\b/i.test(header)) {
      throw refusal("token_missing", "The request has no `Authorization: Bearer` header.", scope);
    }
    const token = bearerCredentials.exec(header)?.[1];
    if (token === undefined) {
      throw refusal("token_malformed", "The Authorization header holds no single token.", scope);
    }
    try {
      const claims = await verifyToken(token);
      c.set("subject", claims.subject);
      c.set("client", claims.client);
      c.set("ceiling", claims.ceiling ?? {});
      if (claims.endUser !== undefined) c.set("endUser", claims.endUser);
      c.set("scopes", claims.scopes);
      if (!claims.scopes.has(scope)) {
        throw refusal("scope_missing", `The token's scope does not hold ${scope}.`, scope);
      }
      // last, so that a request that is refused here uses nothing up
      await claims.use?.();
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      if (error.code === "keys_unavailable") throw new ProblemError(error.code, error.message);
      throw refusal(error.code, error.message, scope);
    }
    await next();
  };
}
