/** Markers of a JPEG, the byte after 0xFF (ITU-T T.81, table B.1). */
const END_OF_IMAGE = 0xd9;
const START_OF_SCAN = 0xda;

/**
 * Counts the scans of a JPEG: how often a decoder goes through the whole picture, however small each scan is. A progressive
 * photo has about ten.
 *
 * Only markers are read, from one to the next, each byte once at most. What a decoder skips by its length, such as EXIF with
 * a thumbnail, is skipped here, and nothing else is, so that no scan can be hidden; what follows the end of the image is not
 * looked at.
 *
 * @param bytes the file
 * @returns how many scans there are
 *
 * @example
 * ```ts
 * if (countScans(photo) > 100) throw new Error("not made by any camera");
 * ```
 */
export function countScans(bytes: Uint8Array): number {
  let scans = 0;
  // bytes one by one: `indexOf` is quicker in photos, and much slower in a file of nothing but 0xFF 0x00
  for (let at = 2; at < bytes.length; at++) {
    if (bytes[at] !== 0xff) continue;
    const marker = bytes[at + 1]!;
    if (marker === END_OF_IMAGE) break;
    if (marker === START_OF_SCAN) scans++;
    // to the segment's last byte; its length counts the two bytes that hold it
    if (hasLength(marker)) at += 1 + Math.max(2, bytes[at + 2]! << 8 | bytes[at + 3]!);
  }
  return scans;
}

/**
 * Whether a decoder goes on behind a segment of a length that the marker gives. Not so behind 0 (a 0xFF of compressed data),
 * 0xFF (a marker may be filled up with these), restarts, and markers that are reserved.
 */
function hasLength(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf || marker >= START_OF_SCAN && marker <= 0xef || marker === 0xfe;
}
