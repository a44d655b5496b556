import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BundleError } from "./bundle_error.ts";
import type { Manifest } from "./manifest.ts";

/**
 * Checks that every file the manifest lists is there, has the size and the SHA-256 the manifest says.
 *
 * All sizes are checked before any content, so that a missing file is told at once even in a large bundle. Files
 * are read piece by piece: memory stays small whatever the bundle's size.
 *
 * @param folder the bundle's folder
 * @param manifest its checked manifest, or as many of its files as are to be checked
 * @throws {BundleError} `file_missing`, `file_size_wrong` or `file_digest_wrong`; the message names the first such file
 *
 * @example
 * ```ts
 * await verifyBundle("models/default", await loadManifest("models/default"));
 * ```
 */
export async function verifyBundle(folder: string, manifest: Pick<Manifest, "files">): Promise<void> {
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

/**
 * The files that a graph is made of: its own and those beside it, its weights among them.
 *
 * @param manifest the bundle's
 * @param path of the graph in it
 * @returns those of the manifest's files, by their path in the bundle
 *
 * @example
 * ```ts
 * filesOfGraph(manifest, "vae_decoder/model.onnx"); // { "vae_decoder/config.json": …, … }
 * ```
 */
export function filesOfGraph({ files }: Pick<Manifest, "files">, path: string): Manifest["files"] {
  return Object.fromEntries(Object.entries(files).filter(([file]) => dirname(file) === dirname(path)));
}

/** Bytes read at a time. */
const CHUNK = 1 << 20;

/**
 * Reads a file piece by piece: half of the time that a stream takes.
 *
 * @param path of the file
 * @returns its pieces, each good until the next is asked for
 */
export async function* readInChunks(path: string): AsyncGenerator<Uint8Array> {
  const chunk = new Uint8Array(CHUNK);
  using file = await Deno.open(path);
  for (let count = await file.read(chunk); count !== null; count = await file.read(chunk)) {
    yield chunk.subarray(0, count);
  }
}

/**
 * SHA-256 of a file, read piece by piece.
 *
 * @param path of the file
 * @returns the digest in hexadecimal
 */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of readInChunks(path)) hash.update(chunk);
  return hash.digest("hex");
}
