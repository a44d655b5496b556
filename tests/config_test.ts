import { deepEqual, equal, match, notEqual, ok, throws } from "node:assert/strict";
import { isAbsolute, join } from "node:path";
import { type Config, ConfigError, loadConfig } from "../config.ts";

const defaults = { cores: 6, workingDirectory: "/srv/app" };

const load = (environment: Record<string, string>): Config => loadConfig(environment, defaults);

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    load(environment);
  } catch (error) {
    ok(error instanceof ConfigError);
    return error.problems;
  }
  throw new Error("the configuration was taken");
}

const key = (fill: number) => new Uint8Array(32).fill(fill).toBase64();

Deno.test("an account of an identity provider begins with nothing, unless the operator says so", () => {
  const provider = { JWT_ISSUER: "i", JWT_AUDIENCE: "a", JWT_JWKS_FILE: "keys.json" };
  equal(load(provider).durable.initialCredit, 0);
  equal(load({ ...provider, INITIAL_CREDIT: "5" }).durable.initialCredit, 5);
});

Deno.test("nothing needs to be set", () => {
  const { bundle, ...rest } = load({});
  ok(isAbsolute(bundle) && bundle.endsWith(join("models", "default")));
  deepEqual(rest, {
    host: "127.0.0.1",
    port: 8080,
    stateFolder: "/srv/app/.idadapter",
    bundleSource: undefined,
    graphCache: "/srv/app/.idadapter/graphs",
    executionProvider: "cpu",
    threads: 6,
    maxBatch: undefined,
    maxQueue: 64,
    generationTimeoutSeconds: 600,
    resultTtlSeconds: 86_400,
    durable: {
      store: { kind: "embedded", folder: "/srv/app/.idadapter/database" },
      encryption: { kind: "development", path: "/srv/app/.idadapter/encryption_key" },
      s3: undefined,
      prices: { perMegapixelStep: 100, minimum: 1 },
      initialCredit: 1_000_000_000,
      requestsPerMinute: 600,
      generationsAtOnce: 32,
      usageUrl: undefined,
      webhooksToPrivate: false,
    },
    jwt: {
      issuer: "idadapter-development",
      audience: "idadapter",
      algorithms: ["ES256"],
      clockToleranceSeconds: 5,
      keys: { kind: "development", path: "/srv/app/.idadapter/development_key.json" },
    },
    maxBodyBytes: 33_554_432,
    corsOrigins: [],
    logLevel: "info",
    shutdownGraceSeconds: 30,
  });
});

Deno.test("every variable is read", () => {
  const config = load({
    HOST: "0.0.0.0",
    PORT: "9000",
    BUNDLE: "bundles/large",
    GRAPH_CACHE_DIR: "kept",
    EXECUTION_PROVIDER: "cuda",
    THREADS: "2",
    MAX_BATCH: "16",
    MAX_QUEUE: "0",
    GENERATION_TIMEOUT_SECONDS: "60",
    RESULT_TTL_SECONDS: "30",
    DATABASE_URL: "postgres://u:p@db.example:5432/portraits",
    ENCRYPTION_KEYS: `${key(1)}, ${key(2)}`,
    S3_BUCKET: "portraits",
    S3_REGION: "eu-central-1",
    S3_ENDPOINT: "https://s3.example",
    S3_ACCESS_KEY_ID: "id",
    S3_SECRET_ACCESS_KEY: "secret",
    PRICE_PER_MEGAPIXEL_STEP: "7",
    PRICE_MINIMUM: "3",
    INITIAL_CREDIT: "50",
    REQUESTS_PER_MINUTE: "30",
    GENERATIONS_AT_ONCE: "2",
    USAGE_EVENTS_URL: "https://billing.example/events",
    WEBHOOKS_TO_PRIVATE_ADDRESSES: "true",
    JWT_ISSUER: "https://id.example",
    JWT_AUDIENCE: "portraits",
    JWT_JWKS_URL: "https://id.example/jwks.json",
    JWT_ALGORITHMS: "RS256, EdDSA",
    JWT_CLOCK_TOLERANCE_SECONDS: "0",
    MAX_BODY_BYTES: "2048",
    CORS_ORIGINS: "https://a.example",
    LOG_LEVEL: "warn",
    SHUTDOWN_GRACE_SECONDS: "8",
    UNRELATED: "kept out",
  });
  deepEqual(config, {
    host: "0.0.0.0",
    port: 9000,
    stateFolder: "/srv/app/.idadapter",
    bundle: "/srv/app/bundles/large",
    bundleSource: undefined,
    graphCache: "/srv/app/kept",
    executionProvider: "cuda",
    threads: 2,
    maxBatch: 16,
    maxQueue: 0,
    generationTimeoutSeconds: 60,
    resultTtlSeconds: 30,
    durable: {
      store: { kind: "server", url: "postgres://u:p@db.example:5432/portraits" },
      encryption: { kind: "keys", keys: [key(1), key(2)] },
      s3: {
        bucket: "portraits",
        region: "eu-central-1",
        endpoint: "https://s3.example",
        credentials: { accessKeyId: "id", secretAccessKey: "secret" },
      },
      prices: { perMegapixelStep: 7, minimum: 3 },
      initialCredit: 50,
      requestsPerMinute: 30,
      generationsAtOnce: 2,
      usageUrl: "https://billing.example/events",
      webhooksToPrivate: true,
    },
    jwt: {
      issuer: "https://id.example",
      audience: "portraits",
      algorithms: ["RS256", "EdDSA"],
      clockToleranceSeconds: 0,
      keys: { kind: "jwks_url", url: "https://id.example/jwks.json" },
    },
    maxBodyBytes: 2048,
    corsOrigins: ["https://a.example"],
    logLevel: "warn",
    shutdownGraceSeconds: 8,
  });
});

Deno.test("an identity provider cannot pass for accounts that sign their own tokens", () => {
  const problems = problemsOf({
    JWT_ISSUER: "urn:idadapter:account-keys",
    JWT_AUDIENCE: "a",
    JWT_JWKS_FILE: "keys.json",
  });
  equal(problems.length, 1);
  ok(problems[0]?.startsWith("JWT_ISSUER "));
});

Deno.test("keys come from an address, a file, or the development key under STATE_DIR", () => {
  const provider = { JWT_ISSUER: "i", JWT_AUDIENCE: "a" };
  deepEqual(load({ ...provider, JWT_JWKS_FILE: "keys.json" }).jwt.keys, {
    kind: "jwks_file",
    path: "/srv/app/keys.json",
  });
  deepEqual(load({ STATE_DIR: "/var/lib/idadapter" }).jwt.keys, {
    kind: "development",
    path: "/var/lib/idadapter/development_key.json",
  });
  for (const url of ["http://localhost:9/jwks", "http://127.0.0.1/jwks", "http://[::1]:80/jwks"]) {
    deepEqual(load({ ...provider, JWT_JWKS_URL: url }).jwt.keys, { kind: "jwks_url", url });
  }
});

Deno.test("an empty variable is an unset one", () => {
  deepEqual(load({ PORT: "", BUNDLE: "", JWT_JWKS_URL: "", THREADS: "" }), load({}));
});

Deno.test("the configuration is frozen through and through", () => {
  const config = load({});
  throws(() => Object.assign(config, { port: 1 }), TypeError);
  throws(() => Object.assign(config.jwt, { issuer: "x" }), TypeError);
  throws(() => (config.jwt.algorithms as string[]).push("HS256"), TypeError);
  throws(() => Object.assign(config.jwt.keys, { path: "x" }), TypeError);
});

Deno.test("each wrong value is named with what to do", () => {
  const cases: [variables: Record<string, string>, problem: RegExp][] = [
    [{ PORT: "eighty" }, /^PORT must be a whole number from 0 to 65535/],
    [{ PORT: "65536" }, /^PORT must be at most 65535/],
    [{ PORT: "-1" }, /^PORT must be a whole number/],
    [{ THREADS: "0" }, /^THREADS must be at least 1/],
    [{ MAX_BATCH: "0" }, /^MAX_BATCH must be at least 1/],
    [{ MAX_QUEUE: "many" }, /^MAX_QUEUE must be a whole number/],
    [{ RESULT_TTL_SECONDS: "2592001" }, /^RESULT_TTL_SECONDS must be at most 2592000/],
    [{ DATABASE_URL: "mysql://db", ENCRYPTION_KEYS: key(1) }, /^DATABASE_URL must be postgres:/],
    [{ DATABASE_URL: "postgres://db/x" }, /^ENCRYPTION_KEYS is not set/],
    [{ ENCRYPTION_KEYS: "c2hvcnQ=" }, /^ENCRYPTION_KEYS must hold base64 of 32 bytes/],
    [{ S3_BUCKET: "b", S3_ACCESS_KEY_ID: "id" }, /^S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY go together/],
    [{ PRICE_MINIMUM: "-1" }, /^PRICE_MINIMUM must be a whole number/],
    [{ USAGE_EVENTS_URL: "billing" }, /^USAGE_EVENTS_URL must be an http or https address/],
    [{ USAGE_EVENTS_URL: "collector:8080/events" }, /^USAGE_EVENTS_URL must be an http or https address/],
    [{ USAGE_EVENTS_URL: "ftp://collector.example/" }, /^USAGE_EVENTS_URL must be an http or https address/],
    [
      { USAGE_EVENTS_URL: "https://user:pass@collector.example/" },
      /^USAGE_EVENTS_URL must not hold a user name or password/,
    ],
    [
      { USAGE_EVENTS_URL: "https://user@collector.example/" },
      /^USAGE_EVENTS_URL must not hold a user name or password/,
    ],
    [{ S3_ENDPOINT: "store:9000" }, /^S3_ENDPOINT must be an http or https address/],
    [{ S3_ENDPOINT: "s3://store" }, /^S3_ENDPOINT must be an http or https address/],
    [
      { S3_ENDPOINT: "http://id:secret@store:9000" },
      /^S3_ENDPOINT must not hold a user name or password: S3_ACCESS_KEY_ID/,
    ],
    [{ WEBHOOKS_TO_PRIVATE_ADDRESSES: "yes" }, /^WEBHOOKS_TO_PRIVATE_ADDRESSES must be true or false/],
    [{ EXECUTION_PROVIDER: "gpu" }, /^EXECUTION_PROVIDER must be one of cpu, cuda/],
    [{ LOG_LEVEL: "verbose" }, /^LOG_LEVEL must be one of/],
    [{ MAX_BODY_BYTES: "32MB" }, /^MAX_BODY_BYTES must be a whole number/],
    [{ JWT_ALGORITHMS: "HS256" }, /^JWT_ALGORITHMS may hold only asymmetric algorithms/],
    [{ JWT_ALGORITHMS: "ES256,none" }, /^JWT_ALGORITHMS may hold only asymmetric algorithms/],
    [{ JWT_ALGORITHMS: " , " }, /^JWT_ALGORITHMS must name at least one/],
    [
      { JWT_JWKS_URL: "http://id.example/jwks", JWT_ISSUER: "i", JWT_AUDIENCE: "a" },
      /^JWT_JWKS_URL must be an https/,
    ],
    [{ JWT_JWKS_URL: "jwks.json", JWT_ISSUER: "i", JWT_AUDIENCE: "a" }, /^JWT_JWKS_URL must be an https/],
    [{ JWT_JWKS_FILE: "k.json", JWT_AUDIENCE: "a" }, /^JWT_ISSUER is not set/],
    [{ JWT_JWKS_FILE: "k.json", JWT_ISSUER: "i" }, /^JWT_AUDIENCE is not set/],
  ];
  for (const [variables, problem] of cases) {
    const problems = problemsOf(variables);
    equal(problems.length, 1, problems.join("\n"));
    match(problems[0] ?? "", problem);
  }
});

Deno.test("all problems are told at once", () => {
  const problems = problemsOf({
    PORT: "x",
    THREADS: "0",
    LOG_LEVEL: "loud",
    JWT_JWKS_URL: "https://id.example/jwks.json",
    JWT_JWKS_FILE: "keys.json",
  });
  deepEqual(problems.map((problem) => problem.split(" ")[0]), [
    "PORT",
    "THREADS",
    "LOG_LEVEL",
    "JWT_JWKS_URL",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
  ]);
});

Deno.test("CORS_ORIGINS holds origins and nothing longer", () => {
  deepEqual(load({ CORS_ORIGINS: "https://a.example, http://localhost:5173" }).corsOrigins, [
    "https://a.example",
    "http://localhost:5173",
  ]);
  deepEqual(load({ CORS_ORIGINS: "*" }).corsOrigins, ["*"]);
  for (
    const wrong of ["https://a.example/", "a.example", "https://a.example/app", "ftp://a.example", "null"]
  ) {
    match(problemsOf({ CORS_ORIGINS: wrong }).join(), /CORS_ORIGINS must hold origins/);
  }
});

Deno.test("a bundle in a bucket: where it is, what it must be, where it goes", () => {
  const sha256 = "ab".repeat(32);
  const { bundle, bundleSource } = load({
    BUNDLE: "s3://models/portraits/3/",
    BUNDLE_SHA256: sha256,
    BUNDLE_CACHE_DIR: "/cache",
    S3_ENDPOINT: "https://store.example",
    S3_ACCESS_KEY_ID: "id",
    S3_SECRET_ACCESS_KEY: "secret",
  });
  deepEqual(bundleSource, {
    bucket: "models",
    prefix: "portraits/3",
    manifestSha256: sha256,
    region: "us-east-1",
    endpoint: "https://store.example",
    credentials: { accessKeyId: "id", secretAccessKey: "secret" },
  });
  match(bundle, /^\/cache\/[0-9a-f]{16}$/);
  notEqual(load({ BUNDLE: "s3://models/portraits/4", BUNDLE_CACHE_DIR: "/cache" }).bundle, bundle);
  match(load({ BUNDLE: "s3://models" }).bundle, /\/bundles\/[0-9a-f]{16}$/);
});

Deno.test("what graphs become is kept with the rest of the state, elsewhere, or not at all", () => {
  equal(load({ STATE_DIR: "/state" }).graphCache, "/state/graphs");
  equal(load({ GRAPH_CACHE_DIR: "/cache", BUNDLE: "s3://models" }).graphCache, "/cache");
  equal(load({ GRAPH_CACHE_DIR: "off", BUNDLE: "models/default" }).graphCache, undefined);
});

Deno.test("addresses of bundles that nobody fetches, and digests that nobody checks, are refused", () => {
  match(problemsOf({ BUNDLE: "https://models.example/3" }).join(), /BUNDLE must be a folder or s3:/);
  match(problemsOf({ BUNDLE: "s3://models", BUNDLE_SHA256: "AB" }).join(), /BUNDLE_SHA256 must be 64/);
  match(problemsOf({ BUNDLE: "models/default", BUNDLE_SHA256: "ab".repeat(32) }).join(), /BUNDLE is no s3:/);
});
