/** Photos that must be refused, made on the spot. */

import { Buffer } from "node:buffer";
import { crc32, deflateSync } from "node:zlib";
import sharp from "sharp";

type Bytes = Uint8Array<ArrayBuffer>;

function pngChunk(type: string, data: Uint8Array): Uint8Array {
  const chunk = new Uint8Array(12 + data.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, data.length);
  chunk.set(new TextEncoder().encode(type), 4);
  chunk.set(data, 8);
  view.setUint32(8 + data.length, crc32(chunk.subarray(4, 8 + data.length)));
  return chunk;
}

/**
 * A decompression bomb: a complete, valid PNG of one bit a pixel, all black, small as a file.
 *
 * @param side pixels
 * @returns the file; 30,000 a side is 900 million pixels in about 110 kB
 */
export function hugePng(side: number): Bytes {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, side);
  view.setUint32(4, side);
  header[8] = 1; // bits a sample; the zeros after it: greyscale, deflate, adaptive filters, not interlaced
  const rows = deflateSync(new Uint8Array(side * (1 + Math.ceil(side / 8))), { level: 6 });
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  const parts = [
    signature,
    pngChunk("IHDR", header),
    pngChunk("IDAT", rows),
    pngChunk("IEND", new Uint8Array()),
  ];
  const file = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}

/**
 * A photo of nobody.
 *
 * @returns a JPEG with a smooth gradient, 640 x 480
 */
export async function emptyScene(): Promise<Bytes> {
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="640" height="480"><defs><linearGradient id="g" x2="0" y2="1">
    <stop offset="0" stop-color="#6ab"/><stop offset="1" stop-color="#243"/></linearGradient></defs>
    <rect width="640" height="480" fill="url(#g)"/></svg>`;
  return new Uint8Array(await sharp(new TextEncoder().encode(svg)).jpeg().toBuffer());
}

/**
 * A photo of two people.
 *
 * @param face a photo of one
 * @returns a PNG with the photo beside its mirror image
 */
export async function twoFaces(face: Bytes): Promise<Bytes> {
  const { width, height } = await sharp(face).metadata();
  const canvas = { create: { width: 2 * width, height, channels: 3 as const, background: "white" } };
  const mirrored = await sharp(face).flop().toBuffer();
  const pair = sharp(canvas).composite([{ input: Buffer.from(face), left: 0, top: 0 }, {
    input: mirrored,
    left: width,
    top: 0,
  }]);
  return new Uint8Array(await pair.png().toBuffer());
}

/**
 * The same photo in another format.
 *
 * @param photo any photo
 * @param format to write
 * @returns the file
 */
export async function rewrite(
  photo: Bytes,
  format: "jpeg" | "png" | "webp" | "avif" | "gif",
): Promise<Bytes> {
  return new Uint8Array(await sharp(photo).toFormat(format).toBuffer());
}
