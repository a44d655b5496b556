/** Pictures in any S3-compatible service, by the AWS SDK. */

import { createS3Client, type S3Service } from "../store/s3_client.ts";
import { ObjectStoreError } from "../store/unavailable.ts";
import type { ImageStore } from "./image_store.ts";

/** Which bucket of which service. */
export interface S3Settings extends S3Service {
  readonly bucket: string;
}

/** One request at most, the SDK's own tries included: a picture has a megabyte, and nobody waits for ever. */
const requestMilliseconds = 20_000;

/** Whatever the service does not do is a fault of its own kind; the cause's name tells a refusal from an outage. */
async function ask<Answer>(
  request: (options: { abortSignal: AbortSignal }) => Promise<Answer>,
): Promise<Answer> {
  try {
    return await request({ abortSignal: AbortSignal.timeout(requestMilliseconds) });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.name : typeof cause;
    throw new ObjectStoreError(`the image store did not do as asked: ${reason}`, { cause });
  }
}

/**
 * Keeps pictures in a bucket. Each object's `Expires` says when it may go, and nothing here removes it: the sweep does, by the
 * rows of `generation_images`, which are written first. A lifecycle rule on `generations/` is the safety net.
 *
 * Calls throw {@linkcode ObjectStoreError} when the service cannot be reached or refuses.
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
        ask((options) =>
          client.send(
            new PutObjectCommand({
              Bucket,
              Key: key,
              Body: data,
              ContentType: contentType,
              Expires: expiresAt,
            }),
            options,
          )
        )
      ));
    },
    get: (key) =>
      ask(async (options) => {
        try {
          const { Body } = await client.send(new GetObjectCommand({ Bucket, Key: key }), options);
          return Body === undefined ? undefined : new Uint8Array(await Body.transformToByteArray());
        } catch (error) {
          if (error instanceof NoSuchKey) return undefined;
          throw error;
        }
      }),
    // one by one: the request for many needs a checksum that other services know under another name
    async remove(keys) {
      await Promise.all(
        keys.map((Key) => ask((options) => client.send(new DeleteObjectCommand({ Bucket, Key }), options))),
      );
    },
    removeExpired: () => Promise.resolve(),
    [Symbol.dispose]: () => client.destroy(),
  };
}
