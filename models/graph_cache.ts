/**
 * What ONNX Runtime makes of a graph when it opens it, kept for the next start: constants computed, 8-bit weights among
 * them, and operators fused. How weights are laid out in memory is left to each start, for it differs between processors.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { env, type InferenceSession } from "onnxruntime-node";
import type { Bundle } from "./manifest.ts";
import { createSession, type SessionSettings } from "./sessions.ts";
import { filesOfGraph, readInChunks } from "./verify_bundle.ts";

const GRAPH_FILE = "graph.onnx";
const WEIGHTS_FILE = "weights.bin";

/** What an entry's files were when it was made: ONNX Runtime takes damaged weights for good. */
const CHECKSUMS_FILE = "checksums.json";

/** Entries nobody has opened for so long are of a bundle or a release that is gone. */
const KEPT_DAYS = 30;

/**
 * Names what a graph becomes here: another bundle, release of ONNX Runtime or architecture gets another name.
 *
 * @param bundle verified, so that its digests are those of its files
 * @param path of the graph in it
 * @returns hexadecimal digits
 */
export function cacheKey({ manifest }: Pick<Bundle, "manifest">, path: string): string {
  const files = Object.entries(filesOfGraph(manifest, path)).map(([file, { sha256 }]) => [file, sha256])
    .toSorted();
  // the first is the entries' own version
  const parts = [2, path, files, env.versions.common, env.versions.node, process.arch];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** Removes what was not opened for {@linkcode KEPT_DAYS}. */
async function removeOld(folder: string): Promise<void> {
  const oldest = Date.now() - KEPT_DAYS * 86_400_000;
  for await (const { name } of Deno.readDir(folder)) {
    const path = join(folder, name);
    const { mtime } = await Deno.stat(path);
    if ((mtime?.getTime() ?? Infinity) < oldest) await Deno.remove(path, { recursive: true });
  }
}

/**
 * CRC-32 of an entry's files. It is to find damage: who may write here may write checksums, too. For all entries of the
 * embedded bundle it takes 0.03 seconds of a start, where SHA-256 takes 0.15.
 */
async function checksumsOf(entry: string): Promise<string> {
  const checksums: [string, number][] = [];
  for await (const { name } of Deno.readDir(entry)) {
    if (name === CHECKSUMS_FILE) continue;
    let checksum = 0;
    for await (const chunk of readInChunks(join(entry, name))) checksum = crc32(chunk, checksum);
    checksums.push([name, checksum]);
  }
  return JSON.stringify(Object.fromEntries(checksums.toSorted()));
}

/** Has the disk hold what a folder's files say, before their name tells that they are whole. */
async function syncFiles(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    using file = await Deno.open(join(folder, name), { write: true });
    await file.sync();
  }
}

/** Keeps what the graph becomes; an entry appears under its name only when it is whole. */
async function keep(path: string, settings: SessionSettings, folder: string, entry: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
  const draft = await Deno.makeTempDir({ dir: folder, prefix: "draft-" });
  try {
    const session = await createSession(path, settings, {
      graph: join(draft, GRAPH_FILE),
      weights: WEIGHTS_FILE,
    });
    await session.release();
    await Deno.writeTextFile(join(draft, CHECKSUMS_FILE), await checksumsOf(draft));
    await syncFiles(draft);
    // another process may have been quicker
    await Deno.rename(draft, entry).catch(() => {});
    // what another process removes at the same time is no fault
    await removeOld(folder).catch(() => {});
  } finally {
    await Deno.remove(draft, { recursive: true }).catch(() => {});
  }
}

/**
 * Opens a graph as {@linkcode createSession} does, from what an earlier start kept where there is such a thing. A folder
 * that cannot be written to is done without, an entry that cannot be opened, or is damaged, is made again.
 *
 * @param path of the graph
 * @param settings provider `cpu` and threads
 * @param folder keeps the entries
 * @param key of this one ({@linkcode cacheKey})
 * @returns the session
 * @throws {BundleError} as `createSession`
 *
 * @example
 * ```ts
 * const key = cacheKey({ manifest }, "unet/model_int8.onnx");
 * const session = await createCachedSession(`${bundle}/unet/model_int8.onnx`, settings, ".idadapter/graphs", key);
 * ```
 */
export async function createCachedSession(
  path: string,
  settings: SessionSettings,
  folder: string,
  key: string,
): Promise<InferenceSession> {
  const entry = join(folder, key);
  const open = async () => {
    const now = new Date();
    // a folder that came with an image may be there to read alone
    await Deno.utime(entry, now, now).catch(() => {});
    const expected = await Deno.readTextFile(join(entry, CHECKSUMS_FILE));
    if (await checksumsOf(entry) !== expected) throw new Error(`${entry} is damaged`);
    return await createSession(join(entry, GRAPH_FILE), settings);
  };
  try {
    return await open();
  } catch {
    await Deno.remove(entry, { recursive: true }).catch(() => {});
  }
  try {
    await keep(path, settings, folder, entry);
    return await open();
  } catch {
    // nowhere to keep anything is no reason not to serve
    return await createSession(path, settings);
  }
}
