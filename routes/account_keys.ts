/** `/v1/account/keys` */

import { Hono } from "hono";
import { importJWK } from "jose";
import { lockAccount } from "../billing/ledger.ts";
import {
  type AccountKey,
  addAccountKey,
  listAccountKeys,
  type NewAccountKey,
  revokeAccountKey,
} from "../jobs/account_keys.ts";
import { type AccountKeyBody, AccountKeyRequestSchema, type PublicJwk } from "../openapi/account_key.ts";
import * as operations from "../openapi/account_key_operations.ts";
import { isDelegable } from "../openapi/scopes.ts";
import { type AppEnv, type AppOptions, requireJobs } from "./app_options.ts";
import { fieldProblem } from "./field_errors.ts";
import { accountOf } from "./generation_request.ts";
import { admit } from "./middleware/admit.ts";
import { limitBodySize, mostSmallBodyBytes } from "./middleware/body_size.ts";
import { ProblemError } from "./problem_error.ts";
import { readJsonBody } from "./request_body.ts";
import type { AccountTokenRules } from "./tokens/verify_account_token.ts";

/** Members of a JWK that are no public ones: RFC 7518, 6.2.2, 6.3.2 and 6.4; RFC 8037, section 2. */
const privateMembers = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

const algorithms = { EC: "ES256", OKP: "EdDSA", RSA: "RS256" } as const;

/** Bits of an RSA modulus: fewer can be broken, more only cost whoever verifies. */
const modulusBits = { least: 2048, most: 4096 };

function toBody(key: AccountKey, { issuer, audience }: AccountTokenRules): AccountKeyBody {
  const { id, name, algorithm, scope, created_at } = key;
  return { id, name, algorithm, scope, issuer, audience, created_at: created_at.toISOString() };
}

/** A private key that was sent is told of before anything else: it is lost, whatever else is wrong. */
function refusePrivateKey(body: unknown): void {
  const jwk = (body as { jwk?: unknown } | null)?.jwk;
  if (typeof jwk !== "object" || jwk === null) return;
  const found = privateMembers.filter((member) => Object.hasOwn(jwk, member));
  if (found.length === 0 && (jwk as { kty?: unknown }).kty !== "oct") return;
  const detail = "must be a public key, without private or secret parts";
  throw fieldProblem([{ pointer: "/jwk", code: "private_key_refused", detail }]);
}

/** The public numbers alone. */
function publicNumbers(jwk: PublicJwk): Record<string, string> {
  switch (jwk.kty) {
    case "EC":
      return { kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y };
    case "OKP":
      return { kty: jwk.kty, crv: jwk.crv, x: jwk.x };
    case "RSA":
      return { kty: jwk.kty, n: jwk.n, e: jwk.e };
  }
}

/** Makes sure that the numbers are a key that the verifier will take. */
async function requireUsable(jwk: Record<string, string>, algorithm: AccountKey["algorithm"]): Promise<void> {
  const refuse = (detail: string) => fieldProblem([{ pointer: "/jwk", code: "invalid_value", detail }]);
  try {
    const key = await importJWK(jwk, algorithm);
    if (!(key instanceof CryptoKey) || key.type !== "public") throw new TypeError("not public");
    // importing alone takes a point that is not on the curve
    await crypto.subtle.exportKey("spki", key);
    const { modulusLength = modulusBits.least } = key.algorithm as { modulusLength?: number };
    if (modulusLength >= modulusBits.least && modulusLength <= modulusBits.most) return;
  } catch {
    throw refuse("is not a key: its numbers do not fit its type");
  }
  throw refuse(`must have ${modulusBits.least} to ${modulusBits.most} bits`);
}

/** Nobody hands on what the token at hand does not allow. */
function delegatedScope(wanted: string | undefined, held: ReadonlySet<string>): string {
  const words = wanted === undefined
    ? [...held].filter(isDelegable)
    : [...new Set(wanted.split(" ").filter((word) => word !== ""))];
  const refused = words.filter((word) => !isDelegable(word) || !held.has(word));
  if (refused.length > 0 || words.length === 0) {
    const detail =
      "must hold words of the scope of this request's token, `keys:write` and `accounts:write` excepted";
    throw fieldProblem([{ pointer: "/scope", code: "invalid_value", detail }]);
  }
  return words.join(" ");
}

/**
 * The resources of an account's own keys.
 *
 * @param options of the app
 * @returns a Hono app with three routes
 */
export function accountKeys(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const mayWrite = admit(options, "keys:write");
  const path = operations.addAccountKey.path;

  app.get(path, mayWrite, async (c) => {
    const { room } = requireJobs(options);
    const keys = await listAccountKeys(room.store.queries, accountOf(c));
    c.header("Cache-Control", "no-store");
    return c.json({ data: keys.map((key) => toBody(key, options.accountTokens)) });
  });

  app.post(path, mayWrite, limitBodySize(mostSmallBodyBytes), async (c) => {
    const { room } = requireJobs(options);
    refusePrivateKey(await c.req.json().catch(() => null));
    const body = await readJsonBody(c, AccountKeyRequestSchema);
    const algorithm = algorithms[body.jwk.kty];
    const jwk = publicNumbers(body.jwk);
    await requireUsable(jwk, algorithm);
    const scope = delegatedScope(body.scope, c.get("scopes") ?? new Set());
    const key: NewAccountKey = { name: body.name, algorithm, jwk, scope };
    const account = accountOf(c);
    const added = await room.store.transaction(async (transaction) => {
      await lockAccount(transaction, account, room.settings.initialCredit);
      return await addAccountKey(transaction, account, key);
    });
    options.log("info", "account key added", { request_id: c.get("requestId"), account, key: added.id });
    c.header("Cache-Control", "no-store");
    return c.json(toBody(added, options.accountTokens));
  });

  app.delete(operations.revokeAccountKey.getRoutingPath(), mayWrite, async (c) => {
    const { room } = requireJobs(options);
    const [account, id] = [accountOf(c), c.req.param("id") ?? ""];
    if (!await revokeAccountKey(room.store.queries, account, id)) {
      throw new ProblemError("account_key_not_found", "This account has no key of this id.");
    }
    options.log("info", "account key revoked", { request_id: c.get("requestId"), account, key: id });
    return c.body(null, 204);
  });
  return app;
}
