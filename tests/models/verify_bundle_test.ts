import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { BundleError, type BundleErrorCode } from "../../models/bundle_error.ts";
import type { Manifest } from "../../models/manifest.ts";
import { verifyBundle } from "../../models/verify_bundle.ts";
import { realBundle } from "../real_bundle.ts";

const contents = { "unet/model.onnx": "a graph", "scheduler/scheduler_config.json": "{}" };

/** Runs `test` in a folder with `contents`; the manifest knows them. */
async function withFiles(test: (folder: string, manifest: Manifest) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const files: Manifest["files"] = {};
    for (const [path, text] of Object.entries(contents)) {
      await Deno.mkdir(dirname(join(folder, path)), { recursive: true });
      await Deno.writeTextFile(join(folder, path), text);
      files[path] = { sha256: createHash("sha256").update(text).digest("hex"), size: text.length };
    }
    await test(folder, { files } as Manifest);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function assertRefused(folder: string, manifest: Manifest, code: BundleErrorCode): Promise<void> {
  const error = await verifyBundle(folder, manifest).then(() => assert.fail("was taken"), (error) => error);
  assert.ok(error instanceof BundleError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, /unet\/model\.onnx/);
}

Deno.test("whole files pass; a missing, longer or changed file is named", async () => {
  await withFiles(async (folder, manifest) => {
    const path = join(folder, "unet/model.onnx");
    await verifyBundle(folder, manifest);
    await Deno.writeTextFile(path, "a grapf");
    await assertRefused(folder, manifest, "file_digest_wrong");
    await Deno.writeTextFile(path, "a graph and more");
    await assertRefused(folder, manifest, "file_size_wrong");
    await Deno.remove(path);
    await assertRefused(folder, manifest, "file_missing");
    await Deno.mkdir(path);
    await assertRefused(folder, manifest, "file_missing");
  });
});

Deno.test("the embedded bundle is whole", async () => {
  const { folder, manifest } = await realBundle();
  await verifyBundle(folder, manifest);
});
