/** A generation's prompt and photos as they lie in the database: encrypted, and only until it is over. */

import type { GenerateInput } from "../pipeline/protocol.ts";
import type { Sealer } from "../store/sealing.ts";

/** What a generation is made from. */
export interface GenerationInput {
  readonly input: GenerateInput;
  /** denoising steps from one preview of a picture to the next; 0 for none */
  readonly previewInterval: number;
}

/** Everything but the photos, and how long each of them is. */
interface Header {
  readonly input: Omit<GenerateInput, "referenceImages">;
  readonly previewInterval: number;
  readonly lengths: readonly number[];
}

/**
 * Encrypts an input.
 *
 * @param sealer holds the keys
 * @param id of the generation; nothing else can open it
 * @param input prompt, photos and all
 * @returns length of the header (4 bytes, big endian), header as JSON, photos one after another; sealed
 */
export async function sealInput(
  sealer: Sealer,
  id: string,
  { input, previewInterval }: GenerationInput,
): Promise<Uint8Array<ArrayBuffer>> {
  const { referenceImages, ...rest } = input;
  const header: Header = {
    input: rest,
    previewInterval,
    lengths: referenceImages.map(({ length }) => length),
  };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const photosLength = header.lengths.reduce((sum, length) => sum + length, 0);
  const plain = new Uint8Array(4 + text.length + photosLength);
  new DataView(plain.buffer).setUint32(0, text.length);
  plain.set(text, 4);
  let at = 4 + text.length;
  for (const photo of referenceImages) {
    plain.set(photo, at);
    at += photo.length;
  }
  return await sealer.seal(plain, id);
}

/**
 * Decrypts an input.
 *
 * @param sealer holds the keys
 * @param id of the generation it belongs to
 * @param sealed what {@linkcode sealInput} made
 * @returns the input
 * @throws {SealError} when the keys do not fit
 */
export async function openInput(sealer: Sealer, id: string, sealed: Uint8Array): Promise<GenerationInput> {
  const plain = await sealer.open(sealed, id);
  let at = 4 + new DataView(plain.buffer, plain.byteOffset).getUint32(0);
  const { input, previewInterval, lengths }: Header = JSON.parse(
    new TextDecoder().decode(plain.subarray(4, at)),
  );
  const referenceImages = lengths.map((length) => plain.slice(at, at += length));
  // one that an earlier release sealed has no interval
  return { input: { ...input, cacheInterval: input.cacheInterval ?? 1, referenceImages }, previewInterval };
}
