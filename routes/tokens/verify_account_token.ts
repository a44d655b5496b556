/** Judges tokens that accounts sign with keys of their own: the key says whose they are, the claims only narrow them. */

import { decodeProtectedHeader, errors, jwtVerify } from "jose";
import { z } from "zod";
import { type AccountKey, findAccountKey, useToken } from "../../jobs/account_keys.ts";
import type { RequestCeiling } from "../../jobs/generation.ts";
import { isDelegable } from "../../openapi/scopes.ts";
import { storable } from "../../openapi/storable.ts";
import type { Queries } from "../../store/store.ts";
import { type TokenClaims, TokenError, type TokenVerifier, toTokenError } from "./verify_token.ts";

/** `iss` of every token that is signed with an account's own key. */
export const accountTokenIssuer = "urn:idadapter:account-keys";

/** Seconds from `iat` to `exp` at most. */
export const longestLifetimeSeconds = 3600;

/** How far the database's clock, by which used tokens are forgotten, may be ahead of this process's. */
const clockDifferenceSeconds = 600;

/** Names of a key's algorithm in a token's header; RFC 9864 calls EdDSA with Ed25519 by the curve. */
const headerNames = {
  ES256: ["ES256"],
  EdDSA: ["EdDSA", "Ed25519"],
  RS256: ["RS256"],
} as const satisfies Record<AccountKey["algorithm"], readonly string[]>;

/** What is trusted of tokens that accounts sign. */
export interface AccountTokenRules {
  /** the only `iss`, {@linkcode accountTokenIssuer} */
  readonly issuer: string;
  readonly audience: string;
  /** allow-list; a token with any other `alg` is refused before its key is looked up */
  readonly algorithms: readonly (typeof headerNames)[AccountKey["algorithm"]][number][];
  readonly clockToleranceSeconds: number;
}

const claimsSchema = z.object({
  iat: z.number(),
  exp: z.number(),
  jti: storable(z.string().min(1).max(255)).optional(),
  scope: z.string().max(1000).optional(),
  max_images: z.int().min(1).optional(),
  max_price: z.int().min(0).optional(),
  end_user: storable(z.string().min(1).max(128)).optional(),
});

type Claims = z.infer<typeof claimsSchema>;

function readClaims(payload: unknown): Claims {
  const parsed = claimsSchema.safeParse(payload);
  if (parsed.success) return parsed.data;
  const names = [...new Set(parsed.error.issues.map(({ path }) => `\`${String(path[0])}\``))].join(", ");
  throw new TokenError(
    "token_claim_invalid",
    `The token's ${names} is missing, out of range or of the wrong type.`,
  );
}

/** The words of the claim that the key allows; without the claim, all that the key allows. */
function narrowScope(key: AccountKey, claimed: string | undefined): Set<string> {
  const allowed = new Set<string>(key.scope.split(" ").filter(isDelegable));
  return claimed === undefined ? allowed : new Set(claimed.split(" ").filter((word) => allowed.has(word)));
}

function ceilingOf({ max_images, max_price }: Claims): RequestCeiling {
  return {
    ...(max_images === undefined ? {} : { images: max_images }),
    ...(max_price === undefined ? {} : { price: max_price }),
  };
}

async function requireKey(token: string, rules: AccountTokenRules, queries: Queries): Promise<AccountKey> {
  const { alg, kid } = decodeProtectedHeader(token);
  if (!rules.algorithms.some((name) => name === alg)) throw new errors.JOSEAlgNotAllowed();
  const key = typeof kid === "string" && kid.length <= 255 ? await findAccountKey(queries, kid) : undefined;
  if (key === undefined) {
    throw new TokenError("token_key_unknown", "The token's `kid` is not the id of an account's key.");
  }
  if (key.revoked_at !== null) {
    throw new TokenError("token_key_revoked", "The key that signed the token was revoked.");
  }
  return key;
}

/**
 * Makes a verifier of tokens that accounts sign.
 *
 * @param rules what to trust, said out loud: issuer, audience, algorithms
 * @param queries where keys and used tokens are
 * @returns a verifier; it requires `iss`, `aud`, `iat`, `exp` at most an hour after `iat`, and the `kid` of a key that is
 *   not revoked. `sub` is not looked at: the account is the key's
 *
 * @example
 * ```ts
 * const verifyToken = createAccountTokenVerifier({
 *   issuer: accountTokenIssuer, audience: "idadapter", algorithms: ["ES256", "EdDSA", "Ed25519", "RS256"],
 *   clockToleranceSeconds: 5,
 * }, store.queries);
 * ```
 */
export function createAccountTokenVerifier(rules: AccountTokenRules, queries: Queries): TokenVerifier {
  return async (token): Promise<TokenClaims> => {
    try {
      const key = await requireKey(token, rules, queries);
      const { payload } = await jwtVerify(token, key.jwk, {
        // the key's own algorithm alone, whatever the header says
        algorithms: headerNames[key.algorithm].filter((name) => rules.algorithms.includes(name)),
        issuer: rules.issuer,
        audience: rules.audience,
        clockTolerance: rules.clockToleranceSeconds,
        requiredClaims: ["iat", "exp"],
      });
      const claims = readClaims(payload);
      // else an `iat` of next year would let the hour begin now and end then
      if (claims.iat > Date.now() / 1000 + rules.clockToleranceSeconds) {
        throw new TokenError("token_not_yet_valid", "The token's `iat` lies in the future.");
      }
      if (claims.exp - claims.iat > longestLifetimeSeconds) {
        throw new TokenError(
          "token_lifetime_too_long",
          `The token lives ${
            Math.ceil(claims.exp - claims.iat)
          } seconds, at most ${longestLifetimeSeconds} are allowed.`,
        );
      }
      const { jti } = claims;
      return {
        subject: key.account_id,
        client: key.id,
        scopes: narrowScope(key, claims.scope),
        ceiling: ceilingOf(claims),
        ...(claims.end_user === undefined ? {} : { endUser: claims.end_user }),
        ...(jti === undefined ? {} : {
          use: async () => {
            // rows go by the database's clock, which may be ahead
            const until = new Date(
              1000 * (claims.exp + rules.clockToleranceSeconds + clockDifferenceSeconds),
            );
            if (await useToken(queries, key.id, jti, until)) return;
            throw new TokenError("token_used", "The token has a `jti` and was used before.");
          },
        }),
      };
    } catch (error) {
      throw toTokenError(error);
    }
  };
}
