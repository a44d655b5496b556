/** Where the parts of a form begin (RFC 2046, 5.1), in time that grows with its bytes alone, whatever they are. */

/** RFC 2046, 5.1.1: at most 70 characters, none of which needs more than a byte; a parameter as RFC 9110, 5.6.6 has it. */
const boundaryPattern = /;\s*boundary=(?:"([^"\\]{1,70})"|([^;"\s]{1,70}))\s*(?:;|$)/i;

/**
 * The boundary that a form's media type names.
 *
 * @param contentType the header
 * @returns undefined of other types, and where there is none that the RFC allows
 *
 * @example
 * ```ts
 * boundaryOf("multipart/form-data; boundary=x"); // "x"
 * ```
 */
export function boundaryOf(contentType: string): string | undefined {
  if (!/^\s*multipart\/form-data\b/i.test(contentType)) return undefined;
  const [, quoted, plain] = boundaryPattern.exec(contentType) ?? [];
  return quoted ?? plain;
}

/**
 * Places of `--boundary` at the beginnings of lines.
 *
 * @param body the form
 * @param boundary see {@linkcode boundaryOf}
 */
export function* delimiters(body: Uint8Array, boundary: string): Generator<number> {
  const mark = new TextEncoder().encode(`--${boundary}`);
  for (let at = 0; at + mark.length <= body.length;) {
    if (mark.every((byte, offset) => body[at + offset] === byte)) yield at;
    const end = body.indexOf(0x0a, at);
    if (end === -1) return;
    at = end + 1;
  }
}
