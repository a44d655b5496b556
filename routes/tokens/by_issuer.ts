/** Several issuers, each judged by its own rules. */

import { decodeJwt } from "jose";
import type { TokenVerifier } from "./verify_token.ts";

/** What a token says of its issuer; nothing is believed of it but who has to judge it. */
function issuerOf(token: string): string | undefined {
  try {
    return decodeJwt(token).iss;
  } catch {
    return undefined;
  }
}

/**
 * Joins verifiers.
 *
 * @param verifiers by the `iss` they require
 * @param otherwise judges every other token, those that do not parse among them
 * @returns a verifier; a token is judged by one of them and never by a second
 */
export function byIssuer(
  verifiers: Readonly<Record<string, TokenVerifier>>,
  otherwise: TokenVerifier,
): TokenVerifier {
  return (token) => {
    const issuer = issuerOf(token);
    const verify = issuer !== undefined && Object.hasOwn(verifiers, issuer) ? verifiers[issuer] : undefined;
    return (verify ?? otherwise)(token);
  };
}
