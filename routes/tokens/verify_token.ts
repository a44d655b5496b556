/** Judges a JWT (RFC 7519) and tells exactly why it is refused. */

import { errors, jwtVerify, type JWTVerifyGetKey, type JWTVerifyOptions, type JWTVerifyResult } from "jose";
import { isAboutToken } from "./key_source.ts";
import type { TokenConfig } from "../../config.ts";
import type { RequestCeiling } from "../../jobs/generation.ts";
import type { ProblemCode } from "../../openapi/problems.ts";

/** Why a token is refused; each is a problem of the catalogue. */
export type TokenErrorCode = Extract<ProblemCode, `token_${string}`> | "keys_unavailable";

/** A token is refused. */
export class TokenError extends Error {
  override readonly name = "TokenError";
  /**
   * @param code stable reason
   * @param message one sentence; never quotes the token
   */
  constructor(readonly code: TokenErrorCode, message: string) {
    super(message);
  }
}

/** What a good token says. */
export interface TokenClaims {
  /** `sub`: whom the token speaks for */
  readonly subject: string;
  /** `client_id` (RFC 9068) or `azp`: the client the token was issued to; `sub` where there is neither */
  readonly client: string;
  /** the words of `scope` (RFC 8693, 4.2) */
  readonly scopes: ReadonlySet<string>;
  /** most that may be asked for at a time; left out, whatever the account may */
  readonly ceiling?: RequestCeiling;
  /** whom of the account's own users the token is for, 1 to 128 characters */
  readonly endUser?: string;
  /**
   * Uses up a token that is good for one request.
   *
   * @throws {TokenError} `token_used` when it was used before
   */
  readonly use?: () => Promise<void>;
}

/**
 * Verifies one token.
 *
 * @throws {TokenError} with the reason
 */
export type TokenVerifier = (token: string) => Promise<TokenClaims>;

/** What {@linkcode createTokenVerifier} needs. */
export interface TokenVerifierOptions
  extends Pick<TokenConfig, "issuer" | "audience" | "algorithms" | "clockToleranceSeconds"> {
  /** finds the public key of a token's header */
  readonly keys: JWTVerifyGetKey;
  readonly now?: () => Date;
}

/** The key lookup failed for reasons that are not the token's. */
class KeyLookupError extends Error {
  override readonly name = "KeyLookupError";
}

/** Marks failures of the lookup itself, so that they are not taken for the token's. */
function separateLookup(keys: JWTVerifyGetKey): JWTVerifyGetKey {
  return async (header, token) => {
    try {
      return await keys(header, token);
    } catch (error) {
      throw isAboutToken(error) ? error : new KeyLookupError("keys cannot be fetched", { cause: error });
    }
  };
}

/** A key set without key ids may hold several candidates: the token is good if one of them verifies it. */
async function verifyWithAny(
  token: string,
  keys: JWTVerifyGetKey,
  options: JWTVerifyOptions,
): Promise<JWTVerifyResult> {
  try {
    return await jwtVerify(token, keys, options);
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    for await (const key of error) {
      try {
        return await jwtVerify(token, key, options);
      } catch (failure) {
        if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

function claimError(error: errors.JWTClaimValidationFailed): TokenError {
  const { claim, reason } = error;
  if (reason === "check_failed" && claim === "nbf") {
    return new TokenError("token_not_yet_valid", "The token's `nbf` lies in the future.");
  }
  if (reason === "check_failed" && claim === "iss") {
    return new TokenError("token_issuer_wrong", "The token's `iss` is not the issuer this service trusts.");
  }
  if (reason === "check_failed" && claim === "aud") {
    return new TokenError("token_audience_wrong", "The token's `aud` does not name this service.");
  }
  return new TokenError(
    "token_claim_invalid",
    `The token's \`${claim}\` is ${reason === "missing" ? "missing" : "not of the right type"}.`,
  );
}

/**
 * Names the reason of a refusal.
 *
 * @param error what jose, a lookup of keys or a check threw
 * @returns a {@linkcode TokenError}, or the error itself when it is not about the token
 */
export function toTokenError(error: unknown): unknown {
  if (error instanceof KeyLookupError) {
    return new TokenError("keys_unavailable", "The keys that verify tokens cannot be fetched right now.");
  }
  if (error instanceof errors.JWTExpired) {
    return new TokenError("token_expired", "The token's `exp` has passed.");
  }
  if (error instanceof errors.JWTClaimValidationFailed) return claimError(error);
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return new TokenError(
      "token_algorithm_not_allowed",
      "The token's `alg` is not on this service's allow-list.",
    );
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return new TokenError("token_signature_invalid", "The token was changed, or signed with another key.");
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    return new TokenError("token_key_unknown", "No trusted key fits the token's `kid` and `alg`.");
  }
  // what is left of jose's own errors says that the token does not parse; a TypeError that its key does not fit its alg
  if (error instanceof errors.JOSEError || error instanceof TypeError) {
    return new TokenError("token_malformed", "The token is not a JWT in compact form.");
  }
  return error;
}

/**
 * Makes a verifier with everything that is trusted said out loud: algorithms, issuer, audience, keys.
 *
 * @param options what to trust
 * @returns a verifier; it refuses tokens without `sub`, `exp`, `iss` or `aud`
 *
 * @example
 * ```ts
 * const verifyToken = createTokenVerifier({
 *   issuer: "https://id.example.com", audience: "idadapter", algorithms: ["ES256"], clockToleranceSeconds: 5,
 *   keys: await createKeySource({ kind: "jwks_url", url: "https://id.example.com/jwks.json" }),
 * });
 * const { subject } = await verifyToken(token);
 * ```
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const { issuer, audience, algorithms, clockToleranceSeconds, now = () => new Date() } = options;
  const keys = separateLookup(options.keys);
  return async (token) => {
    try {
      const { payload } = await verifyWithAny(token, keys, {
        algorithms: [...algorithms],
        issuer,
        audience,
        clockTolerance: clockToleranceSeconds,
        requiredClaims: ["sub", "exp"],
        currentDate: now(),
      });
      if (typeof payload.sub !== "string" || payload.sub === "" || payload.sub.length > 255) {
        throw new TokenError(
          "token_claim_invalid",
          "The token's `sub` is empty, or longer than 255 characters.",
        );
      }
      const { scope } = payload;
      const words = typeof scope === "string" ? scope.split(" ").filter((word) => word !== "") : [];
      const client = [payload.client_id, payload.azp].find((name) => typeof name === "string" && name !== "");
      return {
        subject: payload.sub,
        client: (client as string | undefined) ?? payload.sub,
        scopes: new Set(words),
      };
    } catch (error) {
      throw toTokenError(error);
    }
  };
}
