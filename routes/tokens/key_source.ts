/** The public keys that tokens are verified with. */

import { createLocalJWKSet, createRemoteJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
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
 * Opens the configured source of keys.
 *
 * @param source a JWK Set behind an address (fetched when first needed, cached, fetched again for an unknown key id),
 *   one in a file (read now), or the development key (made now when there is none)
 * @returns jose's key lookup
 * @throws {ConfigError} when a file does not hold public keys
 */
export async function createKeySource(source: TokenKeySource): Promise<JWTVerifyGetKey> {
  switch (source.kind) {
    case "jwks_url":
      return createRemoteJWKSet(new URL(source.url), { timeoutDuration: 5_000, cooldownDuration: 10_000 });
    case "jwks_file":
      return createLocalJWKSet(await readKeySet(source.path));
    case "development":
      return createLocalJWKSet({ keys: [publicPart(await loadDevelopmentKey(source.path))] });
  }
}
