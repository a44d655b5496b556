/** Accounts' own keys over HTTP: who is let in by them, how far, and what every refusal says. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  base64url,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type GenerateKeyPairResult,
  type JWK,
  type JWTPayload,
  SignJWT,
} from "jose";
import { AccountKeyListSchema, AccountKeySchema } from "../../openapi/account_key.ts";
import { AccountSchema, UsageSchema } from "../../openapi/account.ts";
import { problemCatalogue, type ProblemCode } from "../../openapi/problems.ts";
import { accountTokenIssuer } from "../../routes/tokens/verify_account_token.ts";
import { expectFields, expectProblem } from "./expect_problem.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asJson, audience, startService, type TestService, type TestServiceOptions } from "./test_service.ts";

const least = { reference_images: [Uint8Array.of(1).toBase64()], prompt: "a smile", class_noun: "woman" };
const price = Math.ceil(
  100 * testManifest.image_size ** 2 * testManifest.defaults.num_inference_steps / 1_000_000,
);
const now = () => Math.floor(Date.now() / 1000);

function start(options: Partial<TestServiceOptions> = {}): Promise<TestService> {
  const inference = scriptInference({ generate: (input) => Promise.resolve(outputOf(input)) });
  return startService({ model: () => ({ manifest: testManifest, inference }), ...options });
}

/** `fetch` with a token of the identity provider. */
async function as(service: TestService, sub: string, path: string, init: RequestInit = {}, claims = {}) {
  const headers = new Headers(init.headers);
  headers.set("Authorization", `Bearer ${await service.sign({ sub, ...claims })}`);
  return await service.call(path, { ...init, headers });
}

function present(service: TestService, token: string, path = "/v1/models", init: RequestInit = {}) {
  const headers = new Headers(init.headers);
  headers.set("Authorization", `Bearer ${token}`);
  return service.call(path, { ...init, headers });
}

/** An account's key pair, registered. */
interface Registered {
  readonly id: string;
  readonly pair: GenerateKeyPairResult;
  readonly sign: (claims?: JWTPayload, header?: { alg?: string; kid?: string }) => Promise<string>;
}

async function register(
  service: TestService,
  account: string,
  { alg = "ES256", scope = undefined as string | undefined } = {},
): Promise<Registered> {
  const pair = await generateKeyPair(alg, { extractable: true });
  const response = await as(
    service,
    account,
    "/v1/account/keys",
    asJson({
      jwk: await exportJWK(pair.publicKey),
      name: "backend",
      ...(scope === undefined ? {} : { scope }),
    }),
  );
  const text = await response.text();
  equal(response.status, 200, text);
  const key = AccountKeySchema.parse(JSON.parse(text));
  deepEqual([key.issuer, key.audience, key.algorithm], [accountTokenIssuer, audience, alg]);
  return {
    id: key.id,
    pair,
    sign: (claims = {}, header = {}) =>
      new SignJWT({ iss: key.issuer, aud: key.audience, iat: now(), exp: now() + 300, ...claims })
        .setProtectedHeader({ alg, kid: key.id, ...header }).sign(pair.privateKey),
  };
}

/** A refusal whose challenge says the same as its problem. */
async function expectRefusal(response: Response, code: ProblemCode, error = "invalid_token") {
  match(response.headers.get("WWW-Authenticate") ?? "", new RegExp(`^Bearer .*error="${error}"`));
  ok(response.headers.get("WWW-Authenticate")?.includes(`"${problemCatalogue[code].title}"`));
  return await expectProblem(response, code);
}

async function expectOk(response: Response): Promise<unknown> {
  const text = await response.text();
  equal(response.status, 200, text);
  return JSON.parse(text);
}

for (const alg of ["ES256", "EdDSA", "RS256"]) {
  Deno.test(`a token of a registered ${alg} key is its account's, whatever its sub says`, async () => {
    await using service = await start();
    const key = await register(service, `owner-${alg}`, { alg });
    const token = await key.sign({ sub: "victim" });
    const account = AccountSchema.parse(await expectOk(await present(service, token, "/v1/account")));
    equal(account.id, `owner-${alg}`);
  });
}

Deno.test("RFC 9864's name of an Ed25519 signature is taken, too", async () => {
  await using service = await start();
  const key = await register(service, "ed", { alg: "EdDSA" });
  await expectOk(await present(service, await key.sign({}, { alg: "Ed25519" })));
});

Deno.test("another account's generations, keys and books stay its own", async () => {
  await using service = await start();
  const { id } = await expectOk(await as(service, "bob", "/v1/generations", asJson(least))) as { id: string };
  const bobs = await register(service, "bob");
  const alices = await register(service, "alice");
  const token = await alices.sign({ sub: "bob" });
  await expectProblem(await present(service, token, `/v1/generations/${id}`), "generation_not_found");
  await expectOk(await present(service, await bobs.sign(), `/v1/generations/${id}`));
  // one account's key under another one's id signs for nobody
  await expectRefusal(
    await present(service, await alices.sign({}, { kid: bobs.id })),
    "token_signature_invalid",
  );
  await expectProblem(
    await as(service, "alice", `/v1/account/keys/${bobs.id}`, { method: "DELETE" }),
    "account_key_not_found",
  );
  const { data } = AccountKeyListSchema.parse(
    await expectOk(await as(service, "alice", "/v1/account/keys")),
  );
  deepEqual(data.map((key) => key.id), [alices.id]);
});

Deno.test("rotation: both keys sign until one is revoked, and that one never again", async () => {
  await using service = await start();
  const [old, next] = [await register(service, "rotating"), await register(service, "rotating")];
  const token = await old.sign();
  for (const good of [token, await next.sign()]) await expectOk(await present(service, good));
  const revoke = () => as(service, "rotating", `/v1/account/keys/${old.id}`, { method: "DELETE" });
  equal((await revoke()).status, 204);
  await expectRefusal(await present(service, token), "token_key_revoked");
  await expectOk(await present(service, await next.sign()));
  await expectProblem(await revoke(), "account_key_not_found");
});

Deno.test("what a token lacks or holds wrongly is refused with its reason", async () => {
  await using service = await start();
  const key = await register(service, "strict");
  const cases: readonly (readonly [ProblemCode, Record<string, unknown>])[] = [
    ["token_expired", { iat: now() - 600, exp: now() - 1 }],
    ["token_lifetime_too_long", { exp: now() + 3700 }],
    ["token_lifetime_too_long", { iat: now() - 3601, exp: now() + 10 }],
    ["token_not_yet_valid", { iat: now() + 86_400, exp: now() + 86_500 }],
    ["token_not_yet_valid", { nbf: now() + 100 }],
    ["token_audience_wrong", { aud: "another" }],
    ["token_claim_invalid", { iat: undefined }],
    ["token_claim_invalid", { exp: undefined }],
    ["token_claim_invalid", { max_images: "2" }],
    ["token_claim_invalid", { max_images: 0 }],
    ["token_claim_invalid", { max_price: -1 }],
    ["token_claim_invalid", { end_user: "" }],
    ["token_claim_invalid", { scope: ["models:read"] }],
    ["token_claim_invalid", { jti: "" }],
    ["token_claim_invalid", { jti: "\0" }],
    ["token_claim_invalid", { end_user: "\0" }],
  ];
  for (const [code, claims] of cases) {
    await expectRefusal(await present(service, await key.sign(claims as JWTPayload)), code);
  }
  await expectOk(await present(service, await key.sign({ exp: now() + 3595 })));
  for (const kid of ["key_unknown", "\0", `key_${crypto.randomUUID()}`]) {
    await expectRefusal(await present(service, await key.sign({}, { kid })), "token_key_unknown");
  }
  // a key of an account is no key of the identity provider
  await expectRefusal(
    await present(service, await key.sign({ iss: "https://id.test", sub: "victim" })),
    "token_key_unknown",
  );
});

Deno.test("a public key is no shared secret, and no key signs by another algorithm", async () => {
  await using service = await start();
  for (const alg of ["ES256", "RS256"]) {
    const key = await register(service, `confused-${alg}`, { alg });
    const jwk = await exportJWK(key.pair.publicKey);
    for (const secret of [await exportSPKI(key.pair.publicKey), JSON.stringify(jwk)]) {
      const claims = { iss: accountTokenIssuer, aud: audience, iat: now(), exp: now() + 60 };
      const token = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: key.id })
        .sign(new TextEncoder().encode(secret));
      await expectRefusal(await present(service, token), "token_algorithm_not_allowed");
    }
    const [, payload] = (await key.sign()).split(".");
    const none = base64url.encode(JSON.stringify({ alg: "none", kid: key.id }));
    await expectRefusal(await present(service, `${none}.${payload}.`), "token_algorithm_not_allowed");
  }
  const ec = await register(service, "crossed", { alg: "ES256" });
  const rsa = await register(service, "crossed", { alg: "RS256" });
  await expectRefusal(
    await present(service, await rsa.sign({}, { kid: ec.id })),
    "token_algorithm_not_allowed",
  );
});

Deno.test("a jti is good for one request, however many come at once", async () => {
  await using service = await start();
  const key = await register(service, "once");
  const token = await key.sign({ jti: "first" });
  // refused for its scope: not used by that
  await expectProblem(
    await present(service, await key.sign({ jti: "first", scope: "faces:read" })),
    "scope_missing",
  );
  await expectOk(await present(service, token));
  await expectRefusal(await present(service, token), "token_used");
  const raced = await key.sign({ jti: "raced" });
  const answers = await Promise.all(Array.from({ length: 20 }, () => present(service, raced)));
  deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array(19).fill(401)]);
  for (const answer of answers) await answer.body?.cancel();
  const other = await register(service, "once");
  await expectOk(await present(service, await other.sign({ jti: "first" })));
});

Deno.test("scope only narrows: what the key or its maker was not allowed stays closed", async () => {
  await using service = await start();
  const key = await register(service, "narrow", { scope: "models:read account:read" });
  await expectOk(await present(service, await key.sign()));
  await expectRefusal(
    await present(service, await key.sign({ scope: "account:read" })),
    "scope_missing",
    "insufficient_scope",
  );
  const greedy = await key.sign({ scope: "models:read generations:write keys:write accounts:write" });
  await expectOk(await present(service, greedy));
  for (const path of ["/v1/generations", "/v1/account/keys", "/v1/accounts/narrow/credits"]) {
    await expectRefusal(
      await present(service, greedy, path, asJson({})),
      "scope_missing",
      "insufficient_scope",
    );
  }
  const jwk = await exportJWK((await generateKeyPair("ES256")).publicKey);
  for (
    const [scope, held] of [
      ["keys:write", "keys:write"],
      ["accounts:write", "keys:write accounts:write"],
      ["generations:write", "keys:write models:read"],
      ["no:such", "keys:write"],
      [undefined, "keys:write"],
    ] as const
  ) {
    const body = { jwk, name: "greedy", ...(scope === undefined ? {} : { scope }) };
    const refused = await as(service, "narrow", "/v1/account/keys", asJson(body), { scope: held });
    expectFields(await expectProblem(refused, "invalid_value"), [["/scope", "invalid_value"]]);
  }
});

Deno.test("images and price are limited a request, and who asks for more pays nothing", async () => {
  await using service = await start();
  const key = await register(service, "limited");
  const ask = async (claims: JWTPayload, fields = {}) =>
    await present(service, await key.sign(claims), "/v1/generations", asJson({ ...least, ...fields }));
  const images = await expectRefusal(
    await ask({ max_images: 1 }, { num_images: 2 }),
    "token_images_exceeded",
    "insufficient_scope",
  );
  deepEqual(images.details, { limit: 1, asked: 2 });
  const dear = await expectRefusal(
    await ask({ max_price: price - 1 }),
    "token_price_exceeded",
    "insufficient_scope",
  );
  deepEqual(dear.details, { limit: price - 1, asked: price });
  const account = async () =>
    AccountSchema.parse(await expectOk(await present(service, await key.sign(), "/v1/account")));
  equal((await account()).spent, 0);
  await expectOk(await ask({ max_images: 1, max_price: price }));
  equal((await account()).spent, price);
});

Deno.test("an end user sees what was made for that user, and usage tells it by key and by user", async () => {
  await using service = await start();
  const key = await register(service, "app");
  const make = async (user: string) =>
    await expectOk(
      await present(service, await key.sign({ end_user: user }), "/v1/generations", asJson(least)),
    ) as { id: string };
  const { id } = await make("ann");
  await make("ann");
  await make("ben");
  const ben = await key.sign({ end_user: "ben" });
  for (
    const path of [`/v1/generations/${id}`, `/v1/generations/${id}/images/0`, `/v1/generations/${id}/events`]
  ) {
    await expectProblem(await present(service, ben, path), "generation_not_found");
    const seen = await present(service, await key.sign({ end_user: "ann" }), path);
    equal(seen.status, 200);
    await seen.body?.cancel();
  }
  await expectProblem(
    await present(service, ben, `/v1/generations/${id}`, { method: "DELETE" }),
    "generation_not_found",
  );
  const keyed = asJson(least);
  const again = { ...keyed, headers: { ...keyed.headers as Record<string, string>, "Idempotency-Key": "k" } };
  await expectOk(
    await present(service, await key.sign({ end_user: "cleo" }), "/v1/generations", again),
  );
  await expectProblem(await present(service, ben, "/v1/generations", again), "idempotency_key_reused");
  await expectOk(await present(service, await key.sign(), `/v1/generations/${id}`));
  const usage = async (token: string, query = "") =>
    UsageSchema.parse(await expectOk(await present(service, token, `/v1/usage${query}`)));
  const whole = await key.sign();
  deepEqual((await usage(whole)).data.map((row) => [row.key, row.images]), [[key.id, 4]]);
  equal((await usage(whole, "?end_user=ann")).total.images, 2);
  equal((await usage(ben, "?end_user=ann")).total.images, 1, "an end user's token tells of that user alone");
  await expectProblem(await present(service, ben, "/v1/account"), "token_of_end_user");
  const asked = await expectOk(await present(service, ben, "/v1/generations/price", asJson({})));
  deepEqual(asked, { price });
  for (const scope of [undefined, "webhooks:write"]) {
    const token = await key.sign({ end_user: "ben", ...(scope === undefined ? {} : { scope }) });
    await expectProblem(await present(service, token, "/v1/webhook_endpoints"), "token_of_end_user");
  }
  await expectOk(await present(service, whole, "/v1/webhook_endpoints"));
});

Deno.test("an end user who asks for more than the account can pay is not told how much it has", async () => {
  await using service = await start({ settings: { initialCredit: price - 1 } });
  const key = await register(service, "broke");
  const ask = async (claims: Record<string, unknown>) =>
    await present(service, await key.sign(claims), "/v1/generations", asJson(least));
  const problem = await expectProblem(await ask({ end_user: "ann" }), "insufficient_credits");
  deepEqual(problem.details, { price });
  ok(!problem.detail.includes(String(price - 1)), problem.detail);
  deepEqual((await expectProblem(await ask({}), "insufficient_credits")).details, {
    price,
    available: price - 1,
  });
});

Deno.test("keys that are private, weak or none are refused", async () => {
  await using service = await start();
  const add = (jwk: unknown) => as(service, "careful", "/v1/account/keys", asJson({ jwk, name: "k" }));
  const secrets: JWK[] = [{ kty: "oct", k: "c2VjcmV0" }];
  for (const alg of ["ES256", "EdDSA", "RS256"]) {
    secrets.push(await exportJWK((await generateKeyPair(alg, { extractable: true })).privateKey));
  }
  for (const jwk of secrets) {
    const problem = await expectProblem(await add(jwk), "private_key_refused");
    expectFields(problem, [["/jwk", "private_key_refused"]]);
  }
  ok(!service.log.some((line) => secrets.some(({ d }) => d !== undefined && line.includes(d))));
  const { x, y } = await exportJWK((await generateKeyPair("ES256")).publicKey);
  const off = base64url.encode(base64url.decode(y!).with(0, base64url.decode(y!)[0]! ^ 1));
  await expectProblem(await add({ kty: "EC", crv: "P-256", x, y: off }), "invalid_value");
  await expectProblem(await add({ kty: "OKP", crv: "Ed25519", x: "AAAA" }), "invalid_value");
  const weak = await crypto.subtle.generateKey(
    {
      name: "RSASSA-PKCS1-v1_5",
      modulusLength: 1024,
      publicExponent: Uint8Array.of(1, 0, 1),
      hash: "SHA-256",
    },
    true,
    ["sign", "verify"],
  );
  const { n, e } = await exportJWK(weak.publicKey);
  await expectProblem(await add({ kty: "RSA", n, e }), "invalid_value");
  for (
    const jwk of [{ kty: "EC", crv: "P-384", x, y }, { kty: "EC", crv: "P-256", x, y, alg: "ES384" }, "key"]
  ) {
    equal((await add(jwk)).status, 422);
  }
  const { data } = AccountKeyListSchema.parse(
    await expectOk(await as(service, "careful", "/v1/account/keys")),
  );
  deepEqual(data, []);
});

Deno.test("an account has at most ten keys, also when they come at once", async () => {
  await using service = await start();
  const jwk = await exportJWK((await generateKeyPair("ES256")).publicKey);
  const answers = await Promise.all(
    Array.from({ length: 12 }, () => as(service, "many", "/v1/account/keys", asJson({ jwk, name: "k" }))),
  );
  const refused = answers.filter(({ status }) => status !== 200);
  equal(refused.length, 2);
  for (const response of refused) await expectProblem(response, "too_many_account_keys");
  for (const response of answers) if (!response.bodyUsed) await response.body?.cancel();
});
