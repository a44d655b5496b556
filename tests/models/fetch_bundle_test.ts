/** The real bundle out of a real S3-compatible service, and what goes wrong there. */

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import S3rver from "s3rver";
import { BundleError, type BundleErrorCode } from "../../models/bundle_error.ts";
import { fetchBundle } from "../../models/fetch_bundle.ts";
import { loadManifest } from "../../models/manifest.ts";
import { verifyBundle } from "../../models/verify_bundle.ts";
import { createS3Client } from "../../store/s3_client.ts";
import { type ObjectReader, openS3Folder } from "../../store/s3_objects.ts";
import { bundleFolder } from "../real_bundle.ts";

type Open = ObjectReader["open"];

const bucket = "models";
const prefix = "portraits/mini";

/** Runs `test` with the real bundle uploaded; `open` reads it, `folder` is new. */
async function withBucket(
  test: (
    given: { open: Open; folder: string; digest: string; service: { endpoint: string } },
  ) => Promise<void>,
): Promise<void> {
  const { PutObjectCommand } = await import("@aws-sdk/client-s3");
  const root = await Deno.makeTempDir();
  const server = new S3rver({
    address: "127.0.0.1",
    port: 0,
    silent: true,
    directory: join(root, "s3"),
    configureBuckets: [{ name: bucket, configs: [] }],
  });
  const { port } = await server.run();
  const service = {
    region: "us-east-1",
    endpoint: `http://127.0.0.1:${port}`,
    // frozen, as the configuration is
    credentials: Object.freeze({ accessKeyId: "S3RVER", secretAccessKey: "S3RVER" }),
  };
  const client = await createS3Client(service);
  const { files } = await loadManifest(bundleFolder);
  for (const path of [...Object.keys(files), "bundle.json"]) {
    const Body = await Deno.readFile(join(bundleFolder, path));
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${path}`, Body }));
  }
  client.destroy();
  const digest = createHash("sha256").update(await Deno.readFile(join(bundleFolder, "bundle.json"))).digest(
    "hex",
  );
  const objects = await openS3Folder({ ...service, bucket, prefix });
  try {
    await test({ open: objects.open, folder: join(root, "here"), digest, service });
  } finally {
    objects[Symbol.dispose]();
    await server.close();
    await Deno.remove(root, { recursive: true });
  }
}

async function partsIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) found.push(...await partsIn(join(folder, name)));
    else if (name.endsWith(".part")) found.push(name);
  }
  return found;
}

const failsWith = (code: BundleErrorCode) => (error: unknown) => {
  ok(error instanceof BundleError, String(error));
  equal(error.code, code, error.message);
  return true;
};

/** A stream that ends, or fails, after half of another's bytes. */
function cut(stream: ReadableStream<Uint8Array<ArrayBuffer>>, fail: boolean) {
  let passed = 0;
  return stream.pipeThrough(
    new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform(chunk, controller) {
        passed += chunk.length;
        if (passed <= 40_000) return controller.enqueue(chunk);
        if (fail) controller.error(new Error("connection reset"));
        else controller.terminate();
      },
    }),
  );
}

Deno.test({
  name: "a bundle out of an S3-compatible service",
  // s3rver keeps streams of its own open until the process ends
  sanitizeResources: false,
  sanitizeOps: false,
  fn: (t) =>
    withBucket(async ({ open, folder, digest }) => {
      const quick = { pause: 1 };
      const asked: string[] = [];
      const counted: Open = (path) => {
        asked.push(path);
        return open(path);
      };

      await t.step("a manifest of another digest is refused before anything else is fetched", async () => {
        await rejects(
          fetchBundle({ open: counted, folder, manifestSha256: "0".repeat(64), ...quick }),
          failsWith("manifest_digest_wrong"),
        );
        deepEqual(asked.splice(0), ["bundle.json"]);
        await rejects(Deno.stat(join(folder, "bundle.json")));
      });

      await t.step(
        "a line that breaks is tried again, and what came half leaves nothing behind",
        async () => {
          const tries = new Map<string, number>();
          const flaky: Open = async (path) => {
            const tried = (tries.get(path) ?? 0) + 1;
            tries.set(path, tried);
            const stream = await counted(path);
            return tried <= 2 && path === "unet/model.safetensors" ? cut(stream, tried === 1) : stream;
          };
          const fetched = await fetchBundle({ open: flaky, folder, manifestSha256: digest, ...quick });
          const manifest = await loadManifest(folder);
          await verifyBundle(folder, manifest);
          equal(fetched.files, Object.keys(manifest.files).length);
          equal(tries.get("unet/model.safetensors"), 3);
          deepEqual(await partsIn(folder), []);
          asked.length = 0;
        },
      );

      await t.step(
        "what is there already is not fetched again, with a digest not even the manifest",
        async () => {
          deepEqual(
            await fetchBundle({ open: counted, folder, manifestSha256: digest, ...quick }),
            { files: 0, bytes: 0 },
          );
          deepEqual(asked.splice(0), []);
          await fetchBundle({ open: counted, folder, manifestSha256: undefined, ...quick });
          deepEqual(asked.splice(0), ["bundle.json"]);
        },
      );

      await t.step("a file that was changed here is fetched anew, and no other", async () => {
        const path = join(folder, "tokenizer/tokenizer.json");
        const bytes = await Deno.readFile(path);
        bytes[10]! ^= 1;
        await Deno.writeFile(path, bytes);
        const { files } = await fetchBundle({ open: counted, folder, manifestSha256: digest, ...quick });
        equal(files, 1);
        deepEqual(asked.splice(0), ["tokenizer/tokenizer.json"]);
        await verifyBundle(folder, await loadManifest(folder));
      });

      await t.step("bytes that are not the manifest's never get a file's name", async () => {
        const path = "unet/config.json";
        await Deno.remove(join(folder, path));
        const forged: Open = async (asked) => {
          if (asked !== path) return open(asked);
          const bytes = new Uint8Array(await new Response(await open(path)).arrayBuffer());
          bytes[0]! ^= 1;
          return new Blob([bytes]).stream() as ReadableStream<Uint8Array<ArrayBuffer>>;
        };
        await rejects(
          fetchBundle({ open: forged, folder, manifestSha256: digest, ...quick }),
          failsWith("file_digest_wrong"),
        );
        await rejects(Deno.stat(join(folder, path)));
        const long: Open = async (asked) =>
          asked === path
            ? new Blob([new Uint8Array(1_000_000)]).stream() as ReadableStream<Uint8Array<ArrayBuffer>>
            : await open(asked);
        await rejects(
          fetchBundle({ open: long, folder, manifestSha256: digest, ...quick }),
          failsWith("file_size_wrong"),
        );
        deepEqual(await partsIn(folder), []);
      });
    }),
});

Deno.test({
  name: "a bucket without the bundle is told at once",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: () =>
    withBucket(async ({ folder, service }) => {
      using objects = await openS3Folder({
        ...service,
        region: "us-east-1",
        // frozen, as the configuration is
        credentials: Object.freeze({ accessKeyId: "S3RVER", secretAccessKey: "S3RVER" }),
        bucket,
        prefix: "portraits/none",
      });
      let asked = 0;
      const open: Open = (path) => {
        asked++;
        return objects.open(path);
      };
      await rejects(
        fetchBundle({ open, folder, manifestSha256: undefined }),
        failsWith("bundle_unreachable"),
      );
      equal(asked, 1);
    }),
});
