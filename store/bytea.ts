/** PostgreSQL's `bytea`, quicker than by the drivers' own conversions, which make a string of every byte. */

/**
 * Writes bytes for the embedded database: as they are, for its driver sends what is no text in the binary format. As
 * text it would count the digits one by one: 5 ms of the main thread for a photo of 150 kB (`deno task bench durable`).
 *
 * @param bytes any
 * @returns the same bytes; the driver's types know text alone
 *
 * @example
 * ```ts
 * const pglite = await PGlite.create({ serializers: { [types.BYTEA]: binaryBytea } });
 * ```
 */
export function binaryBytea(bytes: Uint8Array): string {
  return bytes as unknown as string;
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
