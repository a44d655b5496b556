/** Pictures in any S3-compatible service, by the AWS SDK. */

import type { ImageStore } from "./image_store.ts";

/** Which bucket, and how to get in. */
export interface S3Settings {
  readonly bucket: string;
  readonly region: string;
  /** address of the service, where it is not AWS's own */
  readonly endpoint?: string;
  /** left out, the SDK looks where AWS's tools look (instance role, profile) */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/**
 * Keeps pictures in a bucket. Each object's `Expires` says when it may go; the service removes those of generations it
 * knows, and a lifecycle rule on `generations/` is the safety net for what a crash left.
 *
 * @param settings which bucket
 * @returns the store; the SDK is loaded here, so that whoever does without never pays for it
 */
export async function keepImagesInS3(settings: S3Settings): Promise<ImageStore & Disposable> {
  const { DeleteObjectCommand, GetObjectCommand, NoSuchKey, PutObjectCommand, S3Client } = await import(
    "@aws-sdk/client-s3"
  );
  const { bucket: Bucket, region, endpoint, credentials } = settings;
  const client = new S3Client({
    region,
    // services of others know buckets by path; names of hosts are for AWS
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    ...(credentials === undefined ? {} : { credentials }),
    // AWS's newest checksums are unknown to many other services
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
  return {
    async put(images) {
      await Promise.all(images.map(({ key, data, contentType, expiresAt }) =>
        client.send(
          new PutObjectCommand({
            Bucket,
            Key: key,
            Body: data,
            ContentType: contentType,
            Expires: expiresAt,
          }),
        )
      ));
    },
    async get(key) {
      try {
        const { Body } = await client.send(new GetObjectCommand({ Bucket, Key: key }));
        return Body === undefined ? undefined : new Uint8Array(await Body.transformToByteArray());
      } catch (error) {
        if (error instanceof NoSuchKey) return undefined;
        throw error;
      }
    },
    // one by one: the request for many needs a checksum that other services know under another name
    async remove(keys) {
      await Promise.all(keys.map((Key) => client.send(new DeleteObjectCommand({ Bucket, Key }))));
    },
    removeExpired: () => Promise.resolve(),
    [Symbol.dispose]: () => client.destroy(),
  };
}
