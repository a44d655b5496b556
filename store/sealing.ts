/** Encryption at rest: AES-256-GCM (NIST SP 800-38D) with keys from the configuration. */

/** What was sealed cannot be opened: another key, another owner, or it was changed. */
export class SealError extends Error {
  override readonly name = "SealError";
}

/** Encrypts and decrypts. */
export interface Sealer {
  /**
   * Encrypts with the current key.
   *
   * @param plain any bytes
   * @param owner what the bytes belong to; opening needs the same, so that one row's bytes cannot pass for another's
   * @returns key id (4 bytes), nonce (12), ciphertext with its tag (16 more than `plain`)
   */
  seal(plain: Uint8Array<ArrayBuffer>, owner: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Decrypts what any of the keys sealed. @throws {SealError} when it cannot */
  open(sealed: Uint8Array, owner: string): Promise<Uint8Array<ArrayBuffer>>;
}

const keyIdBytes = 4;
const nonceBytes = 12;

/** The first bytes of the key's SHA-256: tells keys apart, tells nothing of them. */
async function keyId(key: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", key)).subarray(0, keyIdBytes).toHex();
}

/**
 * Makes a sealer.
 *
 * @param keys 32 bytes each, at least one; the first seals, all of them open, so a key is replaced by putting a new one
 *   in front and dropping the old one when nothing sealed with it is left
 * @returns the sealer
 *
 * @example
 * ```ts
 * const sealer = await createSealer([crypto.getRandomValues(new Uint8Array(32))]);
 * const sealed = await sealer.seal(new TextEncoder().encode("photo"), "gen_1");
 * new TextDecoder().decode(await sealer.open(sealed, "gen_1")); // "photo"
 * ```
 */
export async function createSealer(keys: readonly Uint8Array<ArrayBuffer>[]): Promise<Sealer> {
  const imported = new Map<string, CryptoKey>();
  for (const key of keys) {
    if (key.length !== 32) throw new RangeError("a key must have 32 bytes");
    imported.set(
      await keyId(key),
      await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]),
    );
  }
  const [first] = imported;
  if (first === undefined) throw new RangeError("at least one key is needed");
  const [currentId, current] = first;
  const parameters = (iv: Uint8Array<ArrayBuffer>, owner: string) => ({
    name: "AES-GCM",
    iv,
    additionalData: new TextEncoder().encode(owner),
  });
  return {
    async seal(plain, owner) {
      const nonce = crypto.getRandomValues(new Uint8Array(nonceBytes));
      const cipher = new Uint8Array(await crypto.subtle.encrypt(parameters(nonce, owner), current, plain));
      const sealed = new Uint8Array(keyIdBytes + nonceBytes + cipher.length);
      sealed.set(Uint8Array.fromHex(currentId));
      sealed.set(nonce, keyIdBytes);
      sealed.set(cipher, keyIdBytes + nonceBytes);
      return sealed;
    },
    async open(sealed, owner) {
      // a copy: what a driver gives may lie in a larger, shared buffer
      const bytes = new Uint8Array(sealed);
      const key = imported.get(bytes.subarray(0, keyIdBytes).toHex());
      if (key === undefined) throw new SealError("sealed with a key that is not configured");
      const nonce = bytes.slice(keyIdBytes, keyIdBytes + nonceBytes);
      try {
        const cipher = bytes.slice(keyIdBytes + nonceBytes);
        return new Uint8Array(await crypto.subtle.decrypt(parameters(nonce, owner), key, cipher));
      } catch (cause) {
        throw new SealError("sealed for another owner, or changed", { cause });
      }
    },
  };
}
