/** The part of the configuration that says which S3-compatible service there is, and how to get in. */

import { z } from "zod";
import { httpAddress } from "./addresses.ts";

/** An S3-compatible service, for portraits and for bundles. */
export interface S3Access {
  readonly region: string;
  /** address of the service; left out, AWS's own */
  readonly endpoint?: string;
  /** left out, the SDK looks where AWS's tools look */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/** The variables, for `environmentSchema` of `config.ts`. */
export const s3Variables = {
  S3_REGION: z.string().default("us-east-1"),
  S3_ENDPOINT: httpAddress("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY are for that").optional(),
  S3_ACCESS_KEY_ID: z.string().optional(),
  S3_SECRET_ACCESS_KEY: z.string().optional(),
};

/** The variables, parsed. */
export type S3Variables = z.output<z.ZodObject<typeof s3Variables>>;

/**
 * What no single variable can tell.
 *
 * @param environment all variables that are set
 * @returns one sentence a problem
 */
export function s3Problems(environment: Readonly<Record<string, string>>): string[] {
  if ((environment.S3_ACCESS_KEY_ID === undefined) === (environment.S3_SECRET_ACCESS_KEY === undefined)) {
    return [];
  }
  return [
    "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY go together: set both, or neither for AWS's own defaults.",
  ];
}

/**
 * Reads this part of the configuration.
 *
 * @param variables parsed
 * @returns the part
 */
export function readS3(variables: S3Variables): S3Access {
  const { S3_REGION, S3_ENDPOINT, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY } = variables;
  return {
    region: S3_REGION,
    ...(S3_ENDPOINT === undefined ? {} : { endpoint: S3_ENDPOINT }),
    ...(S3_ACCESS_KEY_ID === undefined || S3_SECRET_ACCESS_KEY === undefined
      ? {}
      : { credentials: { accessKeyId: S3_ACCESS_KEY_ID, secretAccessKey: S3_SECRET_ACCESS_KEY } }),
  };
}
