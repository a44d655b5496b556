/** What a file is by its first bytes; `unsupported` is an image format that is recognised but not read. */
export type ImageFormat = "jpeg" | "png" | "webp" | "avif" | "heic" | "unsupported" | "unknown";

/**
 * Tells an image's format from its content; names and media types are never trusted.
 *
 * @param bytes the whole file, or its beginning
 * @returns the format; `unsupported` for GIF, TIFF, BMP, JPEG XL and SVG, `unknown` for anything else
 *
 * @example
 * ```ts
 * detectFormat(await Deno.readFile("portrait.png")); // "png"
 * ```
 */
export function detectFormat(bytes: Uint8Array): ImageFormat {
  if (startsWith(bytes, [0xff, 0xd8, 0xff])) return "jpeg";
  if (startsWith(bytes, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return "png";
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP") return "webp";
  if (text(bytes, 4, 4) === "ftyp") return formatOfBrands(bytes);
  return isOtherImage(bytes) ? "unsupported" : "unknown";
}

/**
 * Whether a file ends before its own structure says it does. Only the container is walked, no pixel is decoded.
 *
 * @param bytes the whole file
 * @param format what {@linkcode detectFormat} made of it
 *
 * @example
 * ```ts
 * isCutOff(photo.subarray(0, photo.length / 2), "jpeg"); // true
 * ```
 */
export function isCutOff(bytes: Uint8Array, format: ImageFormat): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (format) {
    case "jpeg":
      return !endsWithJpegMarker(bytes);
    case "png":
      return !hasPngEnd(bytes, view);
    case "webp":
      return bytes.length < 12 || view.getUint32(4, true) + 8 > bytes.length;
    case "avif":
    case "heic":
      return !boxesAreWhole(view);
    default:
      return false;
  }
}

/** ISO base media files (ISO/IEC 14496-12): the brands say whether AV1 or HEVC is inside. */
function formatOfBrands(bytes: Uint8Array): ImageFormat {
  const end = Math.min(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0), bytes.length, 256);
  const brands: string[] = [];
  for (let at = 8; at + 4 <= end; at += 4) if (at !== 12) brands.push(text(bytes, at, 4));
  if (brands.some((brand) => brand === "avif" || brand === "avis")) return "avif";
  if (brands.some((brand) => /^(hei[cxms]|hev[cxms]|mif1|msf1)$/.test(brand))) return "heic";
  return "unsupported";
}

function isOtherImage(bytes: Uint8Array): boolean {
  const signatures = ["GIF8", "BM", "II*\0", "MM\0*", "\0\0\0\x0cJXL ", "\xff\x0a", "8BPS"];
  if (signatures.some((signature) => text(bytes, 0, signature.length) === signature)) return true;
  const start = text(bytes, 0, 256).trimStart().toLowerCase();
  return start.startsWith("<svg") || (start.startsWith("<?xml") && start.includes("<svg"));
}

function endsWithJpegMarker(bytes: Uint8Array): boolean {
  let end = bytes.length;
  // Some cameras pad their files with zeros after the end-of-image marker.
  while (end > 0 && bytes[end - 1] === 0) end--;
  return bytes[end - 2] === 0xff && bytes[end - 1] === 0xd9;
}

function hasPngEnd(bytes: Uint8Array, view: DataView): boolean {
  let at = 8;
  while (at + 12 <= bytes.length) {
    if (text(bytes, at + 4, 4) === "IEND") return true;
    at += 12 + view.getUint32(at);
  }
  return false;
}

function boxesAreWhole(view: DataView): boolean {
  let at = 0;
  while (at < view.byteLength) {
    if (at + 8 > view.byteLength) return false;
    const size = view.getUint32(at);
    if (size === 0) return true; // reaches to the end of the file, wherever that is
    const long = size === 1;
    if (long && at + 16 > view.byteLength) return false;
    const length = long ? Number(view.getBigUint64(at + 8)) : size;
    if (length < 8) return true; // not cut off but nonsense
    at += length;
  }
  return at === view.byteLength;
}

function startsWith(bytes: Uint8Array, signature: readonly number[]): boolean {
  return signature.every((byte, index) => bytes[index] === byte);
}

function text(bytes: Uint8Array, start: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}
