/** A client of any S3-compatible service, by the AWS SDK. */

import type { S3Client } from "@aws-sdk/client-s3";

/** Where the service is, and how to get in. */
export interface S3Service {
  readonly region: string;
  /** address of the service, where it is not AWS's own */
  readonly endpoint?: string;
  /** left out, the SDK looks where AWS's tools look (instance role, profile) */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/**
 * Makes a client; the SDK is loaded here, so that whoever does without never pays for it.
 *
 * @param service where it is
 * @returns the client; `destroy()` closes its connections
 */
export async function createS3Client({ region, endpoint, credentials }: S3Service): Promise<S3Client> {
  const { S3Client } = await import("@aws-sdk/client-s3");
  return new S3Client({
    region,
    // services of others know buckets by path; names of hosts are for AWS
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    // a copy, for the SDK writes into it and the configuration is frozen
    ...(credentials === undefined ? {} : { credentials: { ...credentials } }),
    // AWS's newest checksums are unknown to many other services
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
}
