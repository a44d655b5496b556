/**
 * PostgreSQL's `bytea` as text, by the platform's hexadecimal. The drivers' own conversions take a string a byte, which is
 * slow for a photo (`deno task bench durable`).
 */

/**
 * Writes bytes as the database reads them.
 *
 * @param bytes any
 * @returns `\\x` and hexadecimal digits
 *
 * @example
 * ```ts
 * formatBytea(Uint8Array.of(1, 255)); // "\\x01ff"
 * ```
 */
export function formatBytea(bytes: Uint8Array): string {
  return `\\x${bytes.toHex()}`;
}

/**
 * Reads bytes as the database writes them by default (`bytea_output` is `hex`).
 *
 * @param text `\\x` and hexadecimal digits
 * @returns the bytes
 * @throws {SyntaxError} the digits are none
 *
 * @example
 * ```ts
 * parseBytea("\\x01ff"); // Uint8Array.of(1, 255)
 * ```
 */
export function parseBytea(text: string): Uint8Array {
  return Uint8Array.fromHex(text.slice(2));
}
