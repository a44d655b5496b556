/** Pictures in any S3-compatible service, by the AWS SDK. */

import { createS3Client, type S3Service } from "../store/s3_client.ts";
import type { ImageStore } from "./image_store.ts";

/** Which bucket of which service. */
export interface S3Settings extends S3Service {
  readonly bucket: string;
}

/**
 * Keeps pictures in a bucket. Each object's `Expires` says when it may go; the service removes those of generations it
 * knows, and a lifecycle rule on `generations/` is the safety net for what a crash left.
 *
 * @param settings which bucket
 * @returns the store; the SDK is loaded here, so that whoever does without never pays for it
 */
export async function keepImagesInS3(settings: S3Settings): Promise<ImageStore & Disposable> {
  const { DeleteObjectCommand, GetObjectCommand, NoSuchKey, PutObjectCommand } = await import(
    "@aws-sdk/client-s3"
  );
  const { bucket: Bucket } = settings;
  const client = await createS3Client(settings);
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
