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

const mostKeysAtOnce = 1000;

/**
 * Keeps pictures in a bucket. Each object's `Expires` says when it may go; the service removes those of generations it
 * knows, and a lifecycle rule on `generations/` is the safety net for what a crash left.
 *
 * @param settings which bucket
 * @returns the store; the SDK is loaded here, so that whoever does without never pays for it
 */
export async function keepImagesInS3(settings: S3Settings): Promise<ImageStore & Disposable> {
  const { DeleteObjectsCommand, GetObjectCommand, NoSuchKey, PutObjectCommand, S3Client } = await import(
    "@aws-sdk/client-s3"
  );
  const { bucket: Bucket, region, endpoint, credentials } = settings;
  const client = new S3Client({
    region,
    // services of others know buckets by path; names of hosts are for AWS
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    ...(credentials === undefined ? {} : { credentials }),
  });
  return {
    async put(images) {
      await Promise.all(images.map(({ key, data, contentType, expiresAt }) =>
        client.send(
          new PutObjectCommand({ Bucket, Key: key, Body: data, ContentType: contentType, Expires: expiresAt }),
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
    async remove(keys) {
      for (let start = 0; start < keys.length; start += mostKeysAtOnce) {
        const Objects = keys.slice(start, start + mostKeysAtOnce).map((Key) => ({ Key }));
        await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } }));
      }
    },
    removeExpired: () => Promise.resolve(),
    [Symbol.dispose]: () => client.destroy(),
  };
}
