/** The part of the configuration that says which model is served, and where its files come from. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { readS3, type S3Access, type S3Variables } from "./s3.ts";

/** A bundle in an S3-compatible service. */
export interface BundleSource extends S3Access {
  readonly bucket: string;
  /** without `/` at its ends; empty for the whole bucket */
  readonly prefix: string;
  /** SHA-256 of the manifest, in hexadecimal */
  readonly manifestSha256: string | undefined;
}

/** See {@linkcode readBundle}. */
export interface BundleConfig {
  /** absolute path of the bundle's folder */
  readonly bundle: string;
  /** where that folder is filled from before it is read; undefined when it is there already */
  readonly bundleSource: BundleSource | undefined;
  /** absolute path of the folder that keeps what ONNX Runtime makes of its graphs; undefined for none */
  readonly graphCache: string | undefined;
}

const s3Address = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([^?#]*))?$/;

/** The variables, for `environmentSchema` of `config.ts`. */
export const bundleVariables = {
  BUNDLE: z.string().refine(
    (text) => !/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || s3Address.test(text),
    "must be a folder or s3://bucket/prefix",
  ).optional(),
  BUNDLE_SHA256: z.string().regex(
    /^[0-9a-f]{64}$/,
    "must be 64 hexadecimal digits in lower case, as `sha256sum bundle.json` prints",
  ).optional(),
  BUNDLE_CACHE_DIR: z.string().optional(),
  GRAPH_CACHE_DIR: z.string().optional(),
};

/**
 * What no single variable can tell.
 *
 * @param environment all variables that are set
 * @returns one sentence a problem
 */
export function bundleProblems(environment: Readonly<Record<string, string>>): string[] {
  const { BUNDLE, BUNDLE_SHA256 } = environment;
  if (BUNDLE_SHA256 === undefined || BUNDLE?.startsWith("s3://")) return [];
  return [
    "BUNDLE_SHA256 is set but BUNDLE is no s3:// address: a digest is checked where a bundle is fetched.",
  ];
}

/**
 * Reads this part of the configuration.
 *
 * @param variables parsed
 * @param machine the bundle of this repository, where state is kept, and how relative paths are resolved
 * @returns the part; a bundle that is fetched gets a folder of its own for each address and digest
 */
export function readBundle(
  variables: z.output<z.ZodObject<typeof bundleVariables>> & S3Variables,
  machine: {
    readonly embedded: string;
    readonly stateFolder: string;
    readonly fromHere: (path: string) => string;
  },
): BundleConfig {
  const { BUNDLE, BUNDLE_SHA256, BUNDLE_CACHE_DIR, GRAPH_CACHE_DIR } = variables;
  const graphCache = GRAPH_CACHE_DIR === undefined
    ? join(machine.stateFolder, "graphs")
    : GRAPH_CACHE_DIR === "off"
    ? undefined
    : machine.fromHere(GRAPH_CACHE_DIR);
  if (BUNDLE === undefined) return { bundle: machine.embedded, bundleSource: undefined, graphCache };
  const match = BUNDLE.match(s3Address);
  if (match === null) return { bundle: machine.fromHere(BUNDLE), bundleSource: undefined, graphCache };
  const [, bucket = "", prefix = ""] = match;
  const cache = BUNDLE_CACHE_DIR === undefined
    ? join(machine.stateFolder, "bundles")
    : machine.fromHere(BUNDLE_CACHE_DIR);
  const name = createHash("sha256").update([variables.S3_ENDPOINT, BUNDLE, BUNDLE_SHA256].join("\n")).digest(
    "hex",
  );
  return {
    bundle: join(cache, name.slice(0, 16)),
    bundleSource: {
      bucket,
      prefix: prefix.replace(/^\/+|\/+$/g, ""),
      manifestSha256: BUNDLE_SHA256,
      ...readS3(variables),
    },
    graphCache,
  };
}
