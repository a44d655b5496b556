import { createHash } from "node:crypto";
import { mkdir, open as openFile, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BundleError } from "./bundle_error.ts";
import { type Manifest, parseManifest } from "./manifest.ts";
import { fileDigest } from "./verify_bundle.ts";

/** Where a bundle is fetched from, and where it goes. */
export interface BundleFetch {
  /** opens a file of the bundle; a failure is tried again */
  readonly open: (path: string) => Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
  /** the bundle's folder here; made when it is not there */
  readonly folder: string;
  /** SHA-256 that `bundle.json` must have, in hexadecimal; undefined believes whoever may write the store */
  readonly manifestSha256: string | undefined;
  /** milliseconds before the first repetition, doubled before each further one; 500 if left out */
  readonly pause?: number;
}

/** What fetching a bundle came to. */
export interface FetchedBundle {
  /** files that were fetched; the others lay in the folder already, as the manifest wants them */
  readonly files: number;
  readonly bytes: number;
}

const manifestName = "bundle.json";

/** Files under way at a time: one stream seldom fills the line, many take memory. */
const filesAtOnce = 4;

/** How often a file is asked for; whatever is not there then stops the start. */
const attempts = 4;

/** Larger ones are no manifests. */
const mostManifestBytes = 8_388_608;

/**
 * Fetches a bundle, file by file, each checked against the manifest while it arrives and the manifest against its own
 * digest. What is already there stays; a file appears under its name only when it is whole, so a start that was cut short
 * is taken up where it ended and several processes may fetch into one folder.
 *
 * @param fetch from where to where
 * @returns what was fetched
 * @throws {BundleError} `bundle_unreachable` when a file cannot be read, `manifest_digest_wrong`, `manifest_invalid`,
 *   `file_size_wrong` or `file_digest_wrong` when it is not what it should be; the message names the file
 */
export async function fetchBundle(fetch: BundleFetch): Promise<FetchedBundle> {
  await mkdir(fetch.folder, { recursive: true });
  const manifest = await fetchManifest(fetch);
  const missing = await filesToFetch(fetch.folder, manifest);
  const waiting = [...missing];
  const worker = async () => {
    for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
      await fetchFile(fetch, path, manifest.files[path]!);
    }
  };
  await Promise.all(Array.from({ length: filesAtOnce }, worker));
  return { files: missing.length, bytes: missing.reduce((sum, path) => sum + manifest.files[path]!.size, 0) };
}

/**
 * Says what {@linkcode fetchBundle} has to fetch.
 *
 * @param folder the bundle's folder
 * @param manifest its checked manifest
 * @returns paths of files that are not there, or are not as the manifest wants them
 *
 * @example
 * ```ts
 * await filesToFetch("models/default", await loadManifest("models/default")); // []
 * ```
 */
export async function filesToFetch(
  folder: string,
  { files }: Pick<Manifest, "files">,
): Promise<string[]> {
  const missing: string[] = [];
  for (const path of Object.keys(files)) {
    if (!await isThere(join(folder, path), files[path]!)) missing.push(path);
  }
  return missing;
}

type File = Manifest["files"][string];

async function fetchManifest({ open, folder, manifestSha256, pause }: BundleFetch): Promise<Manifest> {
  const path = join(folder, manifestName);
  const digestOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const here = await readFile(path).catch(() => undefined);
  // a known digest makes the copy here as good as the store's: a restart needs no store
  if (here !== undefined && digestOf(here) === manifestSha256) {
    return parseManifest(new TextDecoder().decode(here), path);
  }
  const bytes = await persistently(manifestName, pause, async () => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of await open(manifestName)) {
      size += chunk.length;
      if (size > mostManifestBytes) {
        throw new BundleError(
          "manifest_invalid",
          `${manifestName} is larger than ${mostManifestBytes} bytes`,
        );
      }
      chunks.push(chunk);
    }
    return new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
  });
  const found = digestOf(bytes);
  if (manifestSha256 !== undefined && found !== manifestSha256) {
    throw new BundleError(
      "manifest_digest_wrong",
      `${manifestName} has SHA-256 ${found}, BUNDLE_SHA256 says ${manifestSha256}: set BUNDLE_SHA256 to the bundle you mean, ` +
        "or put that bundle back",
    );
  }
  const manifest = parseManifest(new TextDecoder().decode(bytes), manifestName);
  await appear(path, (partial) => writeFile(partial, bytes));
  return manifest;
}

async function isThere(path: string, { size, sha256 }: File): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true && found.size === size && await fileDigest(path) === sha256;
}

function fetchFile({ open, folder, pause }: BundleFetch, path: string, expected: File): Promise<void> {
  return persistently(path, pause, async () => {
    const stream = await open(path);
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await appear(join(folder, path), async (partial) => {
      await using file = await openFile(partial, "wx");
      const hash = createHash("sha256");
      let size = 0;
      for await (const chunk of stream) {
        size += chunk.length;
        if (size > expected.size) break;
        hash.update(chunk);
        await file.writeFile(chunk);
      }
      if (size !== expected.size) {
        throw new BundleError(
          "file_size_wrong",
          `${path} came with ${
            size > expected.size ? "more" : size
          } bytes, the manifest says ${expected.size}: ` +
            "upload the bundle again",
        );
      }
      const found = hash.digest("hex");
      if (found !== expected.sha256) {
        throw new BundleError(
          "file_digest_wrong",
          `${path} came with SHA-256 ${found}, the manifest says ${expected.sha256}: upload the bundle again`,
        );
      }
    });
  });
}

/** Has `write` make a file beside `path` that takes its name once it is whole. */
async function appear(path: string, write: (partial: string) => Promise<void>): Promise<void> {
  const partial = `${path}.${crypto.randomUUID()}.part`;
  try {
    await write(partial);
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
}

/** Tries again what may have been the line's fault; a store's answer that a file is not there is an answer. */
async function persistently<T>(path: string, pause = 500, attempt: () => Promise<T>): Promise<T> {
  for (let tried = 1;; tried++) {
    try {
      return await attempt();
    } catch (error) {
      if (tried < attempts && !isFinal(error)) {
        await new Promise((resolve) => setTimeout(resolve, pause * 2 ** (tried - 1)));
        continue;
      }
      if (error instanceof BundleError) throw error;
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      throw new BundleError(
        "bundle_unreachable",
        `${path} cannot be fetched (${name}: ${message}): check BUNDLE, the S3 variables and who may read the bucket`,
        { cause: error },
      );
    }
  }
}

function isFinal(error: unknown): boolean {
  if (error instanceof BundleError) return !["file_size_wrong", "file_digest_wrong"].includes(error.code);
  const status = (error as { $metadata?: { httpStatusCode?: number } } | null)?.$metadata?.httpStatusCode;
  return status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429;
}
