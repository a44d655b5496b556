/** Tokens for development, signed with the development key. */

import { importJWK, SignJWT } from "jose";
import type { TokenConfig } from "../../config.ts";
import { type Scope, scopes } from "../../openapi/scopes.ts";
import { loadDevelopmentKey } from "./development_key.ts";

/** What the token shall say. */
export interface DevelopmentTokenOptions {
  /** `sub`; default `developer` */
  readonly subject?: string;
  /** `scope`, words separated by spaces; default every scope there is */
  readonly scope?: string;
  /** how long from now, as jose reads it (`90s`, `1h`, `7d`); default one hour */
  readonly expiresIn?: string;
}

/** Every scope of the API, as a `scope` claim holds them. */
export const allScopes = (Object.keys(scopes) as Scope[]).join(" ");

/**
 * Signs a token that this machine's service accepts.
 *
 * @param jwt how tokens are judged; its keys must be the development key
 * @param options what the token shall say
 * @returns a JWT in compact form
 * @throws {Error} when the service is configured with an identity provider's keys: nobody here can sign for it
 *
 * @example
 * ```ts
 * const token = await signDevelopmentToken(config.jwt, { subject: "alice", expiresIn: "10m" });
 * ```
 */
export async function signDevelopmentToken(
  jwt: TokenConfig,
  options: DevelopmentTokenOptions = {},
): Promise<string> {
  if (jwt.keys.kind !== "development") {
    throw new Error(
      "JWT_JWKS_URL or JWT_JWKS_FILE is set: get a token from that identity provider, or unset it.",
    );
  }
  const { subject = "developer", scope = allScopes, expiresIn = "1h" } = options;
  const key = await loadDevelopmentKey(jwt.keys.path);
  return await new SignJWT({ scope })
    .setProtectedHeader({ alg: "ES256", kid: key.kid, typ: "JWT" })
    .setIssuer(jwt.issuer)
    .setAudience(jwt.audience)
    .setSubject(subject)
    .setIssuedAt()
    .setExpirationTime(expiresIn)
    .sign(await importJWK(key, "ES256"));
}
