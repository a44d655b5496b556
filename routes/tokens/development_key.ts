/** A key pair this machine makes for itself, so that the service runs with no identity provider. */

import { dirname } from "node:path";
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from "jose";
import { z } from "zod";
import { ConfigError } from "../../config.ts";

const developmentKeySchema = z.object({
  kty: z.literal("EC"),
  crv: z.literal("P-256"),
  alg: z.literal("ES256"),
  kid: z.string().min(1),
  x: z.string().min(1),
  y: z.string().min(1),
  d: z.string().min(1),
});

/** An ES256 key pair as a private JWK (RFC 7517, RFC 7518). */
export type DevelopmentKey = z.infer<typeof developmentKeySchema>;

async function createKey(): Promise<DevelopmentKey> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = await exportJWK(privateKey);
  return developmentKeySchema.parse({ ...jwk, alg: "ES256", kid: await calculateJwkThumbprint(jwk) });
}

/**
 * Reads the development key, making it when there is none. Two processes that start at once end with the same key.
 *
 * @param path of the file; its folder is made, both readable by their owner alone
 * @returns the key pair
 * @throws {ConfigError} when the file holds something else
 */
export async function loadDevelopmentKey(path: string): Promise<DevelopmentKey> {
  const existing = await readKey(path);
  if (existing !== undefined) return existing;
  await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // written aside and linked: whoever is first wins, and nobody reads half a file
  const draft = `${path}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(draft, `${JSON.stringify(await createKey(), null, 2)}\n`, {
    mode: 0o600,
    createNew: true,
  });
  try {
    await Deno.link(draft, path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  } finally {
    await Deno.remove(draft);
  }
  const key = await readKey(path);
  if (key === undefined) {
    throw new ConfigError([`STATE_DIR: ${path} was removed while it was read; start again.`]);
  }
  return key;
}

async function readKey(path: string): Promise<DevelopmentKey | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new ConfigError([
      `STATE_DIR: ${path} cannot be read; give this user access or set another folder.`,
    ]);
  }
  try {
    return developmentKeySchema.parse(JSON.parse(text));
  } catch {
    throw new ConfigError([`STATE_DIR: ${path} is not a development key; remove it and a new one is made.`]);
  }
}

/**
 * The half of a key pair that may be shown.
 *
 * @param key the pair
 * @returns a public JWK
 */
export function publicPart(key: DevelopmentKey): Omit<DevelopmentKey, "d"> {
  const { d: _private, ...rest } = key;
  return rest;
}
