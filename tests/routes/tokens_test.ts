import { equal, match, ok, rejects } from "node:assert/strict";
import { join } from "node:path";
import {
  base64url,
  createLocalJWKSet,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JWTPayload,
  SignJWT,
  UnsecuredJWT,
} from "jose";
import type { TokenConfig } from "../../config.ts";
import type { ProblemCode } from "../../openapi/problems.ts";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";
import { createKeySource } from "../../routes/tokens/key_source.ts";
import { createTokenVerifier } from "../../routes/tokens/verify_token.ts";
import { expectProblem } from "./expect_problem.ts";
import { scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { startService } from "./test_service.ts";

const issuer = "https://id.example";
const audience = "idadapter";
const now = Math.floor(Date.now() / 1000);
const goodClaims: JWTPayload = {
  sub: "alice",
  iss: issuer,
  aud: audience,
  exp: now + 600,
  scope: "generations:write faces:read models:read",
};
const model = () => ({ manifest: testManifest, inference: scriptInference() });
const trusted: Omit<TokenConfig, "keys"> = {
  issuer,
  audience,
  algorithms: ["ES256"],
  clockToleranceSeconds: 5,
};

const trustedKey = await generateKeyPair("ES256", { extractable: true });
const strangerKey = await generateKeyPair("ES256");
const rsaKey = await generateKeyPair("RS256");
const publicJwk = { ...await exportJWK(trustedKey.publicKey), kid: "one", alg: "ES256" };

const sign = (
  claims: JWTPayload,
  header: { alg: string; kid?: string } = { alg: "ES256", kid: "one" },
  key?: Parameters<SignJWT["sign"]>[0],
) => new SignJWT(claims).setProtectedHeader(header).sign(key ?? trustedKey.privateKey);

function without(claim: string): JWTPayload {
  return Object.fromEntries(Object.entries(goodClaims).filter(([name]) => name !== claim));
}

function startTrusting(keys: Parameters<typeof createTokenVerifier>[0]["keys"]) {
  return startService({ model, verifyToken: createTokenVerifier({ ...trusted, keys }) });
}

const startDefault = () => startTrusting(createLocalJWKSet({ keys: [publicJwk] }));

/** The challenge as its attributes (RFC 9110, 11.6.1). */
function challengeOf(response: Response): Record<string, string> {
  const header = response.headers.get("WWW-Authenticate") ?? "";
  match(header, /^Bearer /);
  return Object.fromEntries([...header.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
}

Deno.test("a good token opens the door", async () => {
  await using service = await startDefault();
  const response = await fetch(`${service.address}/v1/models`, {
    headers: { Authorization: `Bearer ${await sign(goodClaims)}` },
  });
  equal(response.status, 200);
  await response.body?.cancel();
});

Deno.test("no credentials: 401 with a challenge that names no error", async () => {
  await using service = await startDefault();
  for (const headers of [{}, { Authorization: "Basic YWxpY2U6c2VjcmV0" }]) {
    const response = await fetch(`${service.address}/v1/models`, { headers });
    const challenge = challengeOf(response);
    equal(challenge.error, undefined);
    equal(challenge.scope, "models:read");
    await expectProblem(response, "token_missing");
  }
});

Deno.test("every bad token: 401 with its own reason", async (t) => {
  await using service = await startDefault();
  const good = await sign(goodClaims);
  const [header = "", payload = "", signature = ""] = good.split(".");
  const forgedPayload = base64url.encode(JSON.stringify({ ...goodClaims, sub: "mallory" }));
  const publicPem = new TextEncoder().encode(await exportSPKI(trustedKey.publicKey));
  const cases: [name: string, credentials: string, code: ProblemCode, description: RegExp][] = [
    ["no token after Bearer", "", "token_malformed", /not a signed JWT/],
    ["two tokens", `${good} ${good}`, "token_malformed", /not a signed JWT/],
    ["not a JWT", "not-a-jwt", "token_malformed", /not a signed JWT/],
    ["three parts of nonsense", "a.b.c", "token_malformed", /not a signed JWT/],
    ["signature cut off", `${header}.${payload}`, "token_malformed", /not a signed JWT/],
    ["expired", await sign({ ...goodClaims, exp: now - 60 }), "token_expired", /expired/],
    ["not yet valid", await sign({ ...goodClaims, nbf: now + 600 }), "token_not_yet_valid", /not valid yet/],
    [
      "wrong issuer",
      await sign({ ...goodClaims, iss: "https://evil.example" }),
      "token_issuer_wrong",
      /issuer/,
    ],
    [
      "wrong audience",
      await sign({ ...goodClaims, aud: "billing" }),
      "token_audience_wrong",
      /another service/,
    ],
    ["payload changed", `${header}.${forgedPayload}.${signature}`, "token_signature_invalid", /signature/],
    [
      "another key under our key's id",
      await sign(goodClaims, { alg: "ES256", kid: "one" }, strangerKey.privateKey),
      "token_signature_invalid",
      /signature/,
    ],
    [
      "unknown key id",
      await sign(goodClaims, { alg: "ES256", kid: "two" }),
      "token_key_unknown",
      /unknown key/,
    ],
    ["alg none", new UnsecuredJWT(goodClaims).encode(), "token_algorithm_not_allowed", /algorithm/],
    [
      "HS256 keyed with the public key's PEM",
      await new SignJWT(goodClaims).setProtectedHeader({ alg: "HS256", kid: "one" }).sign(publicPem),
      "token_algorithm_not_allowed",
      /algorithm/,
    ],
    [
      "asymmetric but not on the list",
      await sign(goodClaims, { alg: "RS256", kid: "one" }, rsaKey.privateKey),
      "token_algorithm_not_allowed",
      /algorithm/,
    ],
    ["no sub", await sign(without("sub")), "token_claim_invalid", /claim/],
    ["empty sub", await sign({ ...goodClaims, sub: "" }), "token_claim_invalid", /claim/],
    ["no exp", await sign(without("exp")), "token_claim_invalid", /claim/],
    ["no iss", await sign(without("iss")), "token_claim_invalid", /claim/],
    ["no aud", await sign(without("aud")), "token_claim_invalid", /claim/],
  ];
  for (const [name, credentials, code, description] of cases) {
    await t.step(name, async () => {
      const response = await fetch(`${service.address}/v1/models`, {
        headers: { Authorization: `Bearer ${credentials}` },
      });
      const challenge = challengeOf(response);
      equal(challenge.error, "invalid_token");
      match(challenge.error_description ?? "", description);
      const problem = await expectProblem(response, code);
      equal(problem.status, 401);
      const secrets = credentials.split(/[ .]/).filter((part) => part.length > 8);
      for (const secret of secrets) {
        ok(!service.log.join("\n").includes(secret), "the log holds part of a token");
      }
    });
  }
});

Deno.test("clocks may differ by the tolerance and no more", async () => {
  await using service = await startDefault();
  const status = async (claims: JWTPayload) => {
    const headers = { Authorization: `Bearer ${await sign({ ...goodClaims, ...claims })}` };
    const response = await fetch(`${service.address}/v1/models`, { headers });
    await response.body?.cancel();
    return response.status;
  };
  const present = Math.floor(Date.now() / 1000);
  equal(await status({ exp: present - 2 }), 200);
  equal(await status({ exp: present - 8 }), 401);
  equal(await status({ nbf: present + 3 }), 200);
  equal(await status({ nbf: present + 12 }), 401);
});

Deno.test("a token without the operation's scope: 403 insufficient_scope", async () => {
  await using service = await startDefault();
  const operations = [
    ["GET", "/v1/models", "models:read"],
    ["POST", "/v1/faces", "faces:read"],
    ["POST", "/v1/generations", "generations:write"],
  ] as const;
  const scopes = ["", "generations:read", "xmodels:read faces:readx generations:write:all", undefined];
  for (const [method, path, scope] of operations) {
    const others = operations.map(([, , other]) => other).filter((other) => other !== scope).join(" ");
    for (const held of [...scopes, others]) {
      const token = await sign(held === undefined ? without("scope") : { ...goodClaims, scope: held });
      const response = await fetch(`${service.address}${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}` },
      });
      const challenge = challengeOf(response);
      equal(challenge.error, "insufficient_scope");
      equal(challenge.scope, scope);
      equal((await expectProblem(response, "scope_missing")).status, 403);
    }
  }
});

Deno.test("a JWK Set behind an address works; an unreachable one is no fault of the token", async () => {
  let fetched = 0;
  const provider = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    fetched++;
    return Response.json({ keys: [publicJwk] });
  });
  const url = `http://127.0.0.1:${provider.addr.port}/jwks.json`;
  const headers = { Authorization: `Bearer ${await sign(goodClaims)}` };
  {
    await using service = await startTrusting(await createKeySource({ kind: "jwks_url", url }));
    for (let i = 0; i < 3; i++) {
      const response = await fetch(`${service.address}/v1/models`, { headers });
      equal(response.status, 200);
      await response.body?.cancel();
    }
    equal(fetched, 1, "the key set is cached");
  }
  await provider.shutdown();
  await using service = await startTrusting(await createKeySource({ kind: "jwks_url", url }));
  const response = await fetch(`${service.address}/v1/models`, { headers });
  equal(response.headers.get("WWW-Authenticate"), null);
  await expectProblem(response, "keys_unavailable");
});

Deno.test("keys that cannot be fetched again are good for some hours, and unknown ones wait for their address", async () => {
  let answers = 0;
  let away = false;
  const provider = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, () => {
    answers++;
    return away ? new Response(null, { status: 503 }) : Response.json({ keys: [publicJwk] });
  });
  const url = `http://127.0.0.1:${provider.addr.port}/jwks.json`;
  const keys = await createKeySource({ kind: "jwks_url", url });
  const find = async (kid: string) => await keys({ alg: "ES256", kid }, { payload: "", signature: "" });
  const { now } = Date;
  const after = (minutes: number) => Date.now = () => now() + minutes * 60_000;
  try {
    ok(await find("one"));
    away = true;
    after(11);
    ok(await find("one"));
    equal(answers, 2, "it was asked again");
    await rejects(find("two"), /200 OK/);
    ok(await find("one"));
    equal(answers, 2, "who did not answer is left alone for a while");
    after(11 * 60);
    ok(await find("one"));
    equal(answers, 3);
    after(13 * 60);
    await rejects(find("one"), /200 OK/);
    away = false;
    after(14 * 60);
    ok(await find("one"));
    await rejects(find("two"), { code: "ERR_JWKS_NO_MATCHING_KEY" });
  } finally {
    Date.now = now;
    await provider.shutdown();
  }
});

Deno.test("a JWK Set in a file works, with several keys that have no id", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "jwks.json");
  const { kid: _kid, ...anonymous } = publicJwk;
  const stranger = { ...await exportJWK(strangerKey.publicKey), alg: "ES256" };
  await Deno.writeTextFile(path, JSON.stringify({ keys: [stranger, anonymous] }));
  await using service = await startTrusting(await createKeySource({ kind: "jwks_file", path }));
  const outsider = await generateKeyPair("ES256");
  for (const [key, status] of [[trustedKey, 200], [strangerKey, 200], [outsider, 401]] as const) {
    const token = await sign(goodClaims, { alg: "ES256" }, key.privateKey);
    const response = await fetch(`${service.address}/v1/models`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    equal(response.status, status);
    await response.body?.cancel();
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a key file with private or symmetric keys is refused, and says what to do", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "jwks.json");
  const contents = [
    JSON.stringify({ keys: [await exportJWK(trustedKey.privateKey)] }),
    JSON.stringify({ keys: [{ kty: "oct", k: "c2VjcmV0" }] }),
    JSON.stringify({ keys: [] }),
    "not json",
  ];
  for (const content of contents) {
    await Deno.writeTextFile(path, content);
    const error = await createKeySource({ kind: "jwks_file", path }).catch((reason) => reason);
    equal(error.name, "ConfigError");
    match(error.message, /^JWT_JWKS_FILE /);
    ok(!error.message.includes(content));
  }
  await Deno.remove(folder, { recursive: true });
  const missing = await createKeySource({ kind: "jwks_file", path }).catch((reason) => reason);
  match(missing.message, /^JWT_JWKS_FILE cannot be read/);
});

Deno.test("the development key is made once, kept private, and signs tokens the service takes", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "state", "development_key.json");
  const keys = { kind: "development", path } as const;
  // two processes that start at once must not end with two keys
  const [keySource] = await Promise.all([
    createKeySource(keys),
    createKeySource(keys),
    createKeySource(keys),
  ]);
  equal((await Deno.stat(path)).mode! & 0o777, 0o600);
  equal([...Deno.readDirSync(join(folder, "state"))].length, 1);
  await using service = await startTrusting(keySource);
  const token = await signDevelopmentToken({ ...trusted, keys }, { subject: "bob", scope: "models:read" });
  const headers = { Authorization: `Bearer ${token}` };
  const response = await fetch(`${service.address}/v1/models`, { headers });
  equal(response.status, 200);
  await response.body?.cancel();
  ok(service.log.some((line) => JSON.parse(line).subject === "bob"));
  await expectProblem(
    await fetch(`${service.address}/v1/faces`, { method: "POST", headers }),
    "scope_missing",
  );
  await Deno.remove(folder, { recursive: true });
});

Deno.test("no development token where an identity provider is configured", async () => {
  const keys = { kind: "jwks_url", url: "https://id.example/jwks.json" } as const;
  const error = await signDevelopmentToken({ ...trusted, keys }).catch((reason) => reason);
  match(error.message, /identity provider/);
});
