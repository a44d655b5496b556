/** What the resources of an account's own keys take and give. */

import { z } from "@hono/zod-openapi";
import { storable } from "./storable.ts";

const base64url = z.string().regex(/^[A-Za-z0-9_-]+$/).max(1024);

/** What any public JWK may say beside its numbers; all of it is dropped. */
const optional = {
  kid: z.string().max(255).optional(),
  use: z.literal("sig").optional(),
  key_ops: z.array(z.literal("verify")).optional(),
};

/** A public JWK (RFC 7517, 7518, 8037): P-256, Ed25519, or RSA of 2048 to 4096 bits. */
export const PublicJwkSchema = z.discriminatedUnion("kty", [
  z.strictObject({
    kty: z.literal("EC"),
    crv: z.literal("P-256"),
    x: base64url,
    y: base64url,
    alg: z.literal("ES256").optional(),
    ...optional,
  }),
  z.strictObject({
    kty: z.literal("OKP"),
    crv: z.literal("Ed25519"),
    x: base64url,
    alg: z.enum(["EdDSA", "Ed25519"]).optional(),
    ...optional,
  }),
  z.strictObject({
    kty: z.literal("RSA"),
    n: base64url,
    e: z.literal("AQAB"),
    alg: z.literal("RS256").optional(),
    ...optional,
  }),
]).openapi("PublicJwk");

/** A public JWK, see {@linkcode PublicJwkSchema}. */
export type PublicJwk = z.infer<typeof PublicJwkSchema>;

/** A key to be added. */
export const AccountKeyRequestSchema = z.strictObject({
  jwk: PublicJwkSchema,
  name: storable(z.string().min(1).max(100)).describe(
    "for people, for example which machine holds the private half",
  ),
  scope: z.string().max(1000).optional().describe(
    "most that tokens of this key may be allowed, words separated by spaces; by default whatever the token of this " +
      "request allows, less `keys:write` and `accounts:write`, which no key can hand on",
  ),
}).openapi("AccountKeyRequest");

/** A key of an account. */
export const AccountKeySchema = z.strictObject({
  id: z.string().describe("`kid` in the header of its tokens"),
  name: z.string(),
  algorithm: z.enum(["ES256", "EdDSA", "RS256"]).describe("`alg` in the header of its tokens"),
  scope: z.string().describe("most that its tokens may be allowed"),
  issuer: z.string().describe("`iss` of its tokens"),
  audience: z.string().describe("`aud` of its tokens"),
  created_at: z.iso.datetime(),
}).openapi("AccountKey");

/** A key, see {@linkcode AccountKeySchema}. */
export type AccountKeyBody = z.infer<typeof AccountKeySchema>;

/** All keys of the account. */
export const AccountKeyListSchema = z.strictObject({ data: z.array(AccountKeySchema) })
  .openapi("AccountKeyList");
