import { createS3Client, type S3Service } from "./s3_client.ts";

/** Objects of a bucket below one prefix. */
export interface S3Folder extends S3Service {
  readonly bucket: string;
  /** without `/` at its ends; empty for the whole bucket */
  readonly prefix: string;
}

/** Reads objects; `using` closes its connections. */
export interface ObjectReader extends Disposable {
  /**
   * Opens an object.
   *
   * @param path below the prefix
   * @returns its bytes, as they come
   * @throws {Error} the object is not there, or may not be read
   */
  open(path: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
}

/**
 * Opens a folder of a bucket for reading.
 *
 * @param folder bucket, prefix and service
 * @returns the reader
 *
 * @example
 * ```ts
 * using objects = await openS3Folder({ bucket: "models", prefix: "portraits/3", region: "eu-west-1" });
 * const manifest = await new Response(await objects.open("bundle.json")).json();
 * ```
 */
export async function openS3Folder(folder: S3Folder): Promise<ObjectReader> {
  const { GetObjectCommand } = await import("@aws-sdk/client-s3");
  const client = await createS3Client(folder);
  return {
    async open(path) {
      const Key = folder.prefix === "" ? path : `${folder.prefix}/${path}`;
      const { Body } = await client.send(new GetObjectCommand({ Bucket: folder.bucket, Key }));
      if (Body === undefined) throw new Error(`${Key} of bucket ${folder.bucket} has no content`);
      return Body.transformToWebStream() as ReadableStream<Uint8Array<ArrayBuffer>>;
    },
    [Symbol.dispose]: () => client.destroy(),
  };
}
