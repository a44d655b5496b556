/** The public keys that tokens are verified with. */

import {
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from "jose";
import { z } from "zod";
import { ConfigError, type TokenKeySource } from "../../config.ts";
import { loadDevelopmentKey, publicPart } from "./development_key.ts";

const keySetSchema = z.object({
  keys: z.array(
    z.looseObject({
      kty: z.enum(["EC", "RSA", "OKP"]),
      d: z.undefined("holds a private key; publish only public ones").optional(),
    }),
  ).min(1),
});

async function readKeySet(path: string): Promise<JSONWebKeySet> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch {
    throw new ConfigError([`JWT_JWKS_FILE cannot be read: check that ${path} exists and is readable.`]);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ConfigError(['JWT_JWKS_FILE is not JSON: it must hold a JWK Set (RFC 7517), {"keys": […]}.']);
  }
  const parsed = keySetSchema.safeParse(json);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) =>
      `${issue.path.join(".") || "the file"}: ${issue.message}`
    );
    throw new ConfigError([
      `JWT_JWKS_FILE is not a set of public asymmetric keys (RFC 7517): ${faults.join("; ")}.`,
    ]);
  }
  return json as JSONWebKeySet;
}

/**
 * Tells what the token is to blame for from what keeps keys from being looked up at all.
 *
 * @param error what a lookup threw
 * @returns true where another token might do better
 */
export function isAboutToken(error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys ||
    error instanceof errors.JOSENotSupported;
}

/** How long keys are used after they were last fetched, while they cannot be fetched again. */
const STALE_MILLISECONDS = 12 * 3_600_000;

/** How long an address that did not answer is left alone; and one that did, however many unknown key ids come. */
const REST_MILLISECONDS = 10_000;

/**
 * Keys behind an address, by jose, which fetches them again after ten minutes. Where that fails, those that it has are good
 * for twelve hours more: an identity provider that is away for a while must not lock everybody out. Ids that are not among
 * them fail as the address does.
 */
function fetchedKeys(url: URL): JWTVerifyGetKey {
  const remote = createRemoteJWKSet(url, { timeoutDuration: 5_000, cooldownDuration: REST_MILLISECONDS });
  const last = { fetched: -Infinity, failed: -Infinity, failure: undefined as unknown };
  return async (header, token) => {
    try {
      if (Date.now() - last.failed < REST_MILLISECONDS) throw last.failure;
      const key = await remote(header, token);
      if (remote.fresh) last.fetched = Date.now();
      return key;
    } catch (error) {
      const kept = remote.jwks();
      if (isAboutToken(error) || kept === undefined || Date.now() - last.fetched > STALE_MILLISECONDS) {
        throw error;
      }
      if (error !== last.failure) Object.assign(last, { failed: Date.now(), failure: error });
      try {
        return await createLocalJWKSet(kept)(header, token);
      } catch (local) {
        throw local instanceof errors.JWKSMultipleMatchingKeys ? local : error;
      }
    }
  };
}

/**
 * Opens the configured source of keys.
 *
 * @param source a JWK Set behind an address (fetched when first needed, cached, fetched again for an unknown key id, and
 *   used for some hours longer where it cannot be), one in a file (read now), or the development key (made now when there
 *   is none)
 * @returns jose's key lookup
 * @throws {ConfigError} when a file does not hold public keys
 */
export async function createKeySource(source: TokenKeySource): Promise<JWTVerifyGetKey> {
  switch (source.kind) {
    case "jwks_url":
      return fetchedKeys(new URL(source.url));
    case "jwks_file":
      return createLocalJWKSet(await readKeySet(source.path));
    case "development":
      return createLocalJWKSet({ keys: [publicPart(await loadDevelopmentKey(source.path))] });
  }
}
