/**
 * The environment, read once: {@linkcode loadConfig} turns it into one validated, frozen object. Nothing else in
 * the service reads the environment.
 */

import { isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { bundleProblems, type BundleSource, bundleVariables, readBundle } from "./config/bundle.ts";
import { anyWholeNumber, wholeNumber } from "./config/numbers.ts";
import { s3Problems, s3Variables } from "./config/s3.ts";
import { type DurableConfig, durableProblems, durableVariables, readDurable } from "./config/durable.ts";

/** Signature algorithms a token may use; all asymmetric, so that no verifier can forge a token (RFC 8725, 2.1). */
export const asymmetricAlgorithms = [
  "ES256",
  "ES384",
  "ES512",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "EdDSA",
  "Ed25519",
] as const;

/** One of {@linkcode asymmetricAlgorithms}. */
export type SignatureAlgorithm = typeof asymmetricAlgorithms[number];

/** Where the public keys that verify tokens come from. */
export type TokenKeySource =
  | { readonly kind: "jwks_url"; readonly url: string }
  | { readonly kind: "jwks_file"; readonly path: string }
  /** a key pair this machine made for itself, kept in `path` */
  | { readonly kind: "development"; readonly path: string };

/** How tokens are judged (RFC 7519, RFC 8725). */
export interface TokenConfig {
  readonly issuer: string;
  readonly audience: string;
  /** allow-list; a token with any other `alg` is refused before its key is looked up */
  readonly algorithms: readonly SignatureAlgorithm[];
  /** how far the issuer's clock may be from ours */
  readonly clockToleranceSeconds: number;
  readonly keys: TokenKeySource;
}

/** Least severe line that is written. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Everything the operator may choose. */
export interface Config {
  readonly host: string;
  /** 0 lets the system choose a free port */
  readonly port: number;
  /** absolute path of the folder for keys and the embedded database */
  readonly stateFolder: string;
  /** absolute path of the bundle's folder */
  readonly bundle: string;
  /** where that folder is filled from before it is read; undefined when it is there already */
  readonly bundleSource: BundleSource | undefined;
  /** absolute path of the folder that keeps what ONNX Runtime makes of the bundle's graphs; undefined for none */
  readonly graphCache: string | undefined;
  readonly executionProvider: "cpu" | "cuda";
  /** threads of one ONNX Runtime session, at least 1 */
  readonly threads: number;
  /** most pictures in a batch, and most generations that denoise at once; undefined has it measured at start */
  readonly maxBatch: number | undefined;
  /** most generations that may wait beside those */
  readonly maxQueue: number;
  /** how long a generation may take from its request on */
  readonly generationTimeoutSeconds: number;
  /** how long a finished generation and its pictures are kept */
  readonly resultTtlSeconds: number;
  /** database, image store, keys, prices, limits, webhooks */
  readonly durable: DurableConfig;
  readonly jwt: TokenConfig;
  readonly maxBodyBytes: number;
  /** origins whose pages may call the service from a browser; `*` for all, none for its own alone */
  readonly corsOrigins: readonly string[];
  readonly logLevel: LogLevel;
  /** how long running generations may take to finish after SIGTERM */
  readonly shutdownGraceSeconds: number;
}

/** What {@linkcode loadConfig} takes from the machine. */
export interface ConfigDefaults {
  /** processor cores, the default of `THREADS` */
  readonly cores: number;
  /** folder that relative paths start from */
  readonly workingDirectory: string;
}

/** The service cannot start as configured. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** @param problems one sentence each: the variable, what is wrong with it and what to do */
  constructor(readonly problems: readonly string[]) {
    super(problems.join("\n"));
  }
}

const oneOf = <const T extends readonly string[]>(values: T, fallback: T[number]) =>
  z.enum(values, `must be one of ${values.join(", ")}`).default(fallback as never);

function isSafeKeyAddress(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  const loopback = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
  return url.protocol === "https:" || (url.protocol === "http:" && loopback);
}

const algorithmList = z.string()
  .transform((text) => text.split(",").map((name) => name.trim()).filter((name) => name !== ""))
  .pipe(
    z.array(
      z.enum(
        asymmetricAlgorithms,
        `may hold only asymmetric algorithms (${asymmetricAlgorithms.join(", ")}); ` +
          "with a shared secret whoever verifies tokens could also forge them",
      ),
    ).min(1, "must name at least one algorithm, for example ES256"),
  ).optional();

function isOrigin(text: string): boolean {
  return text === "*" || (URL.canParse(text) && /^https?:/.test(text) && new URL(text).origin === text);
}

const originList = z.string()
  .transform((text) => text.split(",").map((origin) => origin.trim()).filter((origin) => origin !== ""))
  .pipe(z.array(
    z.string().refine(
      isOrigin,
      "must hold origins as browsers write them, scheme and host without a path, for example https://app.example.com, or *",
    ),
  )).default([]);

const environmentSchema = (defaults: ConfigDefaults) =>
  z.object({
    HOST: z.string().default("127.0.0.1"),
    PORT: wholeNumber(0, 65_535, 8080),
    ...bundleVariables,
    ...s3Variables,
    EXECUTION_PROVIDER: oneOf(["cpu", "cuda"], "cpu"),
    THREADS: wholeNumber(1, 1024, defaults.cores),
    MAX_BATCH: anyWholeNumber(1, 256).optional(),
    MAX_QUEUE: wholeNumber(0, 10_000, 64),
    GENERATION_TIMEOUT_SECONDS: wholeNumber(1, 86_400, 600),
    RESULT_TTL_SECONDS: wholeNumber(1, 2_592_000, 86_400),
    JWT_ISSUER: z.string().optional(),
    JWT_AUDIENCE: z.string().optional(),
    JWT_JWKS_URL: z.string().refine(
      isSafeKeyAddress,
      "must be an https:// address (http:// only for localhost); keys fetched in clear could be replaced on the way",
    ).optional(),
    JWT_JWKS_FILE: z.string().optional(),
    JWT_ALGORITHMS: algorithmList,
    JWT_CLOCK_TOLERANCE_SECONDS: wholeNumber(0, 300, 5),
    STATE_DIR: z.string().default(".idadapter"),
    MAX_BODY_BYTES: wholeNumber(1024, 1_073_741_824, 33_554_432),
    CORS_ORIGINS: originList,
    LOG_LEVEL: oneOf(["debug", "info", "warn", "error"], "info"),
    SHUTDOWN_GRACE_SECONDS: wholeNumber(0, 3600, 30),
    ...durableVariables,
  });

/** What no single variable can tell: which go together. */
function combinationProblems(environment: Readonly<Record<string, string>>): string[] {
  const problems: string[] = [];
  if (environment.JWT_ISSUER === "urn:idadapter:account-keys") {
    problems.push("JWT_ISSUER is the name that accounts' own tokens carry: use your identity provider's.");
  }
  const { JWT_JWKS_URL, JWT_JWKS_FILE, JWT_ISSUER, JWT_AUDIENCE } = environment;
  if (JWT_JWKS_URL !== undefined && JWT_JWKS_FILE !== undefined) {
    problems.push("JWT_JWKS_URL and JWT_JWKS_FILE are both set: unset one, keys come from one place.");
  }
  if (JWT_JWKS_URL !== undefined || JWT_JWKS_FILE !== undefined) {
    // an identity provider signs tokens for many services: without these two, any of them would open this one
    if (JWT_ISSUER === undefined) {
      problems.push("JWT_ISSUER is not set: set it to the `iss` your identity provider writes into tokens.");
    }
    if (JWT_AUDIENCE === undefined) {
      problems.push("JWT_AUDIENCE is not set: set it to the `aud` that tokens for this service carry.");
    }
  }
  return problems;
}

function freezeDeep<T extends object>(value: T): T {
  for (const inner of Object.values(value)) {
    if (typeof inner === "object" && inner !== null) freezeDeep(inner);
  }
  return Object.freeze(value);
}

/**
 * Reads and checks the configuration.
 *
 * An empty variable counts as unset, as compose files and deployment tools write it.
 *
 * @param environment all variables, for example `Deno.env.toObject()`
 * @param defaults what depends on the machine
 * @returns the configuration, frozen
 * @throws {ConfigError} with every problem at once
 *
 * @example
 * ```ts
 * const config = loadConfig({ PORT: "9000" }, { cores: 4, workingDirectory: "/srv" });
 * config.port; // 9000
 * ```
 */
export function loadConfig(environment: Readonly<Record<string, string>>, defaults: ConfigDefaults): Config {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ""));
  const parsed = environmentSchema(defaults).safeParse(given);
  const problems = [
    ...(parsed.error?.issues ?? []).map((issue) => `${String(issue.path[0])} ${issue.message}.`),
    ...combinationProblems(given),
    ...bundleProblems(given),
    ...s3Problems(given),
    ...durableProblems(given),
  ];
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems);
  const variables = parsed.data;
  const fromHere = (path: string) => isAbsolute(path) ? path : resolve(defaults.workingDirectory, path);
  const keys: TokenKeySource = variables.JWT_JWKS_URL !== undefined
    ? { kind: "jwks_url", url: variables.JWT_JWKS_URL }
    : variables.JWT_JWKS_FILE !== undefined
    ? { kind: "jwks_file", path: fromHere(variables.JWT_JWKS_FILE) }
    : { kind: "development", path: resolve(fromHere(variables.STATE_DIR), "development_key.json") };
  return freezeDeep({
    host: variables.HOST,
    port: variables.PORT,
    stateFolder: fromHere(variables.STATE_DIR),
    ...readBundle(variables, {
      embedded: fileURLToPath(new URL("models/default", import.meta.url)),
      stateFolder: fromHere(variables.STATE_DIR),
      fromHere,
    }),
    executionProvider: variables.EXECUTION_PROVIDER,
    threads: variables.THREADS,
    maxBatch: variables.MAX_BATCH,
    maxQueue: variables.MAX_QUEUE,
    generationTimeoutSeconds: variables.GENERATION_TIMEOUT_SECONDS,
    resultTtlSeconds: variables.RESULT_TTL_SECONDS,
    durable: readDurable(variables, {
      stateFolder: fromHere(variables.STATE_DIR),
      development: keys.kind === "development",
    }),
    jwt: {
      issuer: variables.JWT_ISSUER ?? "idadapter-development",
      audience: variables.JWT_AUDIENCE ?? "idadapter",
      algorithms: variables.JWT_ALGORITHMS ??
        (keys.kind === "development" ? ["ES256"] : ["ES256", "RS256", "PS256", "EdDSA", "Ed25519"]),
      clockToleranceSeconds: variables.JWT_CLOCK_TOLERANCE_SECONDS,
      keys,
    },
    maxBodyBytes: variables.MAX_BODY_BYTES,
    corsOrigins: variables.CORS_ORIGINS,
    logLevel: variables.LOG_LEVEL,
    shutdownGraceSeconds: variables.SHUTDOWN_GRACE_SECONDS,
  });
}
