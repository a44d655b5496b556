import { deepEqual, equal } from "node:assert/strict";
import { join } from "node:path";
import S3rver from "s3rver";
import { imageKey, type ImageStore } from "../../jobs/image_store.ts";
import { keepImagesInPostgres } from "../../jobs/postgres_images.ts";
import { keepImagesInS3 } from "../../jobs/s3_images.ts";
import { testOnEachStore } from "../store/each_store.ts";

/** What every image store does. */
async function behaves(images: ImageStore): Promise<void> {
  const expiresAt = new Date(Date.now() + 3_600_000);
  const image = (index: number, ...bytes: number[]) => ({
    key: imageKey("gen_1", index),
    contentType: "image/png",
    data: Uint8Array.from(bytes),
    expiresAt,
  });
  await images.put([image(0, 1, 2, 255), image(1, 0)]);
  deepEqual(await images.get(imageKey("gen_1", 0)), Uint8Array.of(1, 2, 255));
  await images.put([image(0, 3)]);
  deepEqual(await images.get(imageKey("gen_1", 0)), Uint8Array.of(3), "the later bytes stay");
  equal(await images.get(imageKey("gen_2", 0)), undefined);
  await images.remove([imageKey("gen_1", 0), imageKey("gen_2", 7)]);
  equal(await images.get(imageKey("gen_1", 0)), undefined);
  deepEqual(await images.get(imageKey("gen_1", 1)), Uint8Array.of(0));
  await images.remove([]);
  await images.put([]);
  await images.removeExpired();
}

testOnEachStore("pictures in Postgres", ({ store }) => behaves(keepImagesInPostgres(store.queries)));

Deno.test({
  name: "pictures in an S3-compatible service",
  // s3rver keeps streams of its own open until the process ends
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    const server = new S3rver({
      address: "127.0.0.1",
      port: 0,
      silent: true,
      directory: join(folder, "s3"),
      configureBuckets: [{ name: "portraits", configs: [] }],
    });
    const { port } = await server.run();
    using images = await keepImagesInS3({
      bucket: "portraits",
      region: "us-east-1",
      endpoint: `http://127.0.0.1:${port}`,
      // frozen, as the configuration is
      credentials: Object.freeze({ accessKeyId: "S3RVER", secretAccessKey: "S3RVER" }),
    });
    await behaves(images);
    await server.close();
    await Deno.remove(folder, { recursive: true });
  },
});
