/** Where finished pictures lie until their time is over. */

/** The bytes of one picture. */
export interface StoredImage {
  readonly key: string;
  readonly contentType: string;
  readonly data: Uint8Array<ArrayBuffer>;
  readonly expiresAt: Date;
}

/** A place for pictures. Writing the same key twice leaves the later bytes. */
export interface ImageStore {
  put(images: readonly StoredImage[]): Promise<void>;
  /** @returns the bytes, or undefined when there are none any more */
  get(key: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Keys that are not there are no fault. */
  remove(keys: readonly string[]): Promise<void>;
  /** Removes what has expired, where the place knows that by itself; the rows of `generation_images` know it of all. */
  removeExpired(): Promise<void>;
}

/**
 * The key of a picture.
 *
 * @param generation its id
 * @param index which of its pictures
 * @returns for example `generations/gen_1/0`
 */
export function imageKey(generation: string, index: number): string {
  return `generations/${generation}/${index}`;
}
