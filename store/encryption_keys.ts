/** Where the keys of a {@linkcode Sealer} come from. */

import { dirname } from "node:path";

/** Keys as they are configured. */
export type EncryptionKeys =
  /** base64 of 32 bytes each */
  | { readonly kind: "keys"; readonly keys: readonly string[] }
  /** one that this machine made for itself, kept in `path` */
  | { readonly kind: "development"; readonly path: string };

/**
 * Reads the keys; a development key is made when there is none. Two processes that start at once end with the same.
 *
 * @param source where they are
 * @returns 32 bytes each, the one that encrypts first
 * @throws {Error} when the file holds something else
 */
export async function loadEncryptionKeys(source: EncryptionKeys): Promise<Uint8Array<ArrayBuffer>[]> {
  if (source.kind === "keys") return source.keys.map((key) => Uint8Array.fromBase64(key));
  const existing = await readKey(source.path);
  if (existing !== undefined) return [existing];
  await Deno.mkdir(dirname(source.path), { recursive: true, mode: 0o700 });
  // written aside and linked: whoever is first wins, and nobody reads half a file
  const draft = `${source.path}.${crypto.randomUUID()}`;
  const key = crypto.getRandomValues(new Uint8Array(32));
  await Deno.writeTextFile(draft, `${key.toBase64()}\n`, { mode: 0o600, createNew: true });
  try {
    await Deno.link(draft, source.path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  } finally {
    await Deno.remove(draft);
  }
  return [await readKey(source.path) ?? key];
}

async function readKey(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  try {
    const key = Uint8Array.fromBase64(text.trim());
    if (key.length === 32) return key;
  } catch {
    // told below
  }
  throw new Error(
    `${path} is not an encryption key; what it encrypted is lost, remove it and a new one is made.`,
  );
}
