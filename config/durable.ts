/** The part of the configuration that says where things are kept, what they cost and who may do how much. */

import { join } from "node:path";
import { z } from "zod";
import { httpAddress } from "./addresses.ts";
import { anyWholeNumber, wholeNumber } from "./numbers.ts";
import { readS3, type S3Access, type S3Variables } from "./s3.ts";

/** Where the database is. */
export type StoreConfig =
  /** PGlite in `folder` */
  | { readonly kind: "embedded"; readonly folder: string }
  | { readonly kind: "server"; readonly url: string };

/** Where encryption keys come from. */
export type EncryptionKeySource =
  /** base64 of 32 bytes each; the first encrypts, all decrypt */
  | { readonly kind: "keys"; readonly keys: readonly string[] }
  /** one that this machine made for itself, kept in `path` */
  | { readonly kind: "development"; readonly path: string };

/** A bucket of an S3-compatible service. */
export interface S3Config extends S3Access {
  readonly bucket: string;
}

/** See {@linkcode readDurable}. */
export interface DurableConfig {
  readonly store: StoreConfig;
  readonly encryption: EncryptionKeySource;
  /** undefined keeps pictures in the database */
  readonly s3: S3Config | undefined;
  /** credits for a million pixels denoised once, and the least a generation costs */
  readonly prices: { readonly perMegapixelStep: number; readonly minimum: number };
  /** credits a new account begins with */
  readonly initialCredit: number;
  readonly requestsPerMinute: number;
  /** queued and running generations of one account at most */
  readonly generationsAtOnce: number;
  /** gets a CloudEvent for each charge */
  readonly usageUrl: string | undefined;
  /** whether webhooks may go to private addresses and without TLS */
  readonly webhooksToPrivate: boolean;
}

const databaseUrl = z.string().refine(
  (text) => URL.canParse(text) && ["postgres:", "postgresql:"].includes(new URL(text).protocol),
  "must be postgres://user:password@host:port/database",
);

const keyList = z.string()
  .transform((text) => text.split(",").map((key) => key.trim()).filter((key) => key !== ""))
  .pipe(
    z.array(
      z.string().refine(
        (key) => {
          try {
            return Uint8Array.fromBase64(key).length === 32;
          } catch {
            return false;
          }
        },
        "must hold base64 of 32 bytes, as `openssl rand -base64 32` prints; several are separated by commas",
      ),
    ).min(1),
  );

/** The variables, for `environmentSchema` of `config.ts`. */
export const durableVariables = {
  DATABASE_URL: databaseUrl.optional(),
  ENCRYPTION_KEYS: keyList.optional(),
  S3_BUCKET: z.string().optional(),
  PRICE_PER_MEGAPIXEL_STEP: wholeNumber(0, 1_000_000, 100),
  PRICE_MINIMUM: wholeNumber(0, 1_000_000_000, 1),
  INITIAL_CREDIT: anyWholeNumber(0, 999_999_999_999).optional(),
  REQUESTS_PER_MINUTE: wholeNumber(1, 1_000_000, 600),
  GENERATIONS_AT_ONCE: wholeNumber(1, 100_000, 32),
  USAGE_EVENTS_URL: httpAddress(
    "put a secret into its path or query, which are never logged (traces have them: docs/operate.md)",
  ).optional(),
  WEBHOOKS_TO_PRIVATE_ADDRESSES: z.enum(["true", "false"], "must be true or false").default("false"),
};

/**
 * What no single variable can tell.
 *
 * @param environment all variables that are set
 * @returns one sentence a problem
 */
export function durableProblems(environment: Readonly<Record<string, string>>): string[] {
  const problems: string[] = [];
  if (environment.DATABASE_URL !== undefined && environment.ENCRYPTION_KEYS === undefined) {
    problems.push(
      "ENCRYPTION_KEYS is not set: all instances on one DATABASE_URL need the same; `openssl rand -base64 32` prints one.",
    );
  }
  return problems;
}

/** Credits of a new account where this machine signs its own tokens. */
const developmentCredit = 1_000_000_000;

/**
 * Reads this part of the configuration.
 *
 * @param variables parsed
 * @param machine where state is kept, and whether tokens are signed by this machine's own key
 * @returns the part
 */
export function readDurable(
  variables: z.output<z.ZodObject<typeof durableVariables>> & S3Variables,
  machine: { readonly stateFolder: string; readonly development: boolean },
): DurableConfig {
  const { S3_BUCKET } = variables;
  return {
    store: variables.DATABASE_URL === undefined
      ? { kind: "embedded", folder: join(machine.stateFolder, "database") }
      : { kind: "server", url: variables.DATABASE_URL },
    encryption: variables.ENCRYPTION_KEYS === undefined
      ? { kind: "development", path: join(machine.stateFolder, "encryption_key") }
      : { kind: "keys", keys: variables.ENCRYPTION_KEYS },
    s3: S3_BUCKET === undefined ? undefined : { bucket: S3_BUCKET, ...readS3(variables) },
    prices: { perMegapixelStep: variables.PRICE_PER_MEGAPIXEL_STEP, minimum: variables.PRICE_MINIMUM },
    initialCredit: variables.INITIAL_CREDIT ?? (machine.development ? developmentCredit : 0),
    requestsPerMinute: variables.REQUESTS_PER_MINUTE,
    generationsAtOnce: variables.GENERATIONS_AT_ONCE,
    usageUrl: variables.USAGE_EVENTS_URL,
    webhooksToPrivate: variables.WEBHOOKS_TO_PRIVATE_ADDRESSES === "true",
  };
}
