/** Finished portraits of this browser, in IndexedDB; the service forgets them sooner. */

import { openStore } from "./database.js";

/** Generations that are kept; the oldest go first. */
const KEPT = 60;

const run = openStore("idadapter", "generations", "id");

/**
 * All that is kept.
 *
 * @returns {Promise<object[]>} newest first; empty where the browser keeps nothing (private windows)
 */
export async function listKept() {
  try {
    const all = await run("readonly", (store) => store.getAll());
    return all.filter(({ images }) => images.length > 0).sort((a, b) => b.time - a.time);
  } catch {
    return [];
  }
}

/**
 * Keeps a finished generation.
 *
 * @param {{id: string, time: number, request: object, photo: Blob | undefined, images: {blob: Blob, seed: number}[]}} entry
 */
export async function keep(entry) {
  await run("readwrite", (store) => store.put(entry));
  for (const { id } of (await listKept()).slice(KEPT)) await run("readwrite", (store) => store.delete(id));
}

/** Removes one generation from this browser. */
export async function remove(id) {
  await run("readwrite", (store) => store.delete(id));
}

/** Removes all of them. */
export async function removeAll() {
  await run("readwrite", (store) => store.clear());
}
