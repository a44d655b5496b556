import sharp from "sharp";
import { detectFormat, type ImageFormat, isCutOff } from "./image_format.ts";
import { countScans } from "./jpeg_scans.ts";
import { PipelineError } from "./protocol.ts";

// libvips would keep the last hundred operations, and with them photos and portraits that are nobody's business any more.
sharp.cache(false);

/** Photos with more pixels than this are refused before they are decoded: 40 megapixels. */
export const MAX_PIXELS = 40_000_000;

/** So are photos with a longer side: no JPEG has one, and `warp` reads a row over and over where a photo is all row. */
export const MAX_SIDE = 65_535;

/** So are JPEGs with more scans: each takes the decoder through all pixels again, and progressive photos have about ten. */
export const MAX_SCANS = 100;

/** A decoded picture, upright. */
export interface Photo {
  readonly width: number;
  readonly height: number;
  /** [height, width, 3], RGB bytes in sRGB */
  readonly data: Uint8Array;
}

/**
 * Decodes a photo: JPEG, PNG, WebP or AVIF, told by content.
 *
 * The EXIF orientation is applied, transparency is laid on white, greyscale, CMYK, wide-gamut and 16-bit pictures
 * become 8-bit sRGB, of an animation the first frame is taken. The size is read from the header, the number of a JPEG's
 * scans from its markers, and both are checked before any pixel is decoded.
 *
 * @param bytes the encoded file
 * @returns the picture
 * @throws {PipelineError} `image_format_heic`, `image_format_unsupported`, `image_too_large`, `image_truncated` or `image_not_decodable`
 *
 * @example
 * ```ts
 * const photo = await decodePhoto(await Deno.readFile("portrait.jpg"));
 * console.log(photo.width, photo.height);
 * ```
 */
export async function decodePhoto(bytes: Uint8Array): Promise<Photo> {
  const { format } = await readHeader(bytes);
  return await decode(bytes, format);
}

/**
 * Decodes a photo for as long as it is used. All that are used at one time have no more pixels than the largest that is
 * taken, whoever sent them: decoded, one may take 120 MB.
 *
 * @param bytes the encoded file
 * @param use what is done with the picture, which it must not keep; it must not wait for another photo
 * @returns what `use` gave
 * @throws {PipelineError} as {@linkcode decodePhoto}; whatever `use` throws
 *
 * @example
 * ```ts
 * const faces = await withPhoto(bytes, (photo) => findFaces(photo, models, manifest.faces));
 * ```
 */
export async function withPhoto<T>(bytes: Uint8Array, use: (photo: Photo) => Promise<T>): Promise<T> {
  const { format, pixels } = await readHeader(bytes);
  await pixelsInUse.acquire(pixels);
  try {
    return await use(await decode(bytes, format));
  } finally {
    pixelsInUse.release(pixels);
  }
}

/** A semaphore of {@linkcode MAX_PIXELS} permits, first come first served. */
class PixelSemaphore {
  #free = MAX_PIXELS;
  readonly #waiting: { readonly pixels: number; readonly begin: () => void }[] = [];

  /** Waits until so many are free, and takes them. */
  acquire(pixels: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ pixels, begin: resolve });
    this.#letIn();
    return promise;
  }

  /** Gives back what was taken. */
  release(pixels: number): void {
    this.#free += pixels;
    this.#letIn();
  }

  #letIn(): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.pixels <= this.#free) {
      const { pixels, begin } = this.#waiting.shift()!;
      this.#free -= pixels;
      begin();
    }
  }
}

/** That of the process, whose memory it is about. */
const pixelsInUse = new PixelSemaphore();

/** Checks all that a photo tells before any of its pixels is decoded. */
async function readHeader(bytes: Uint8Array): Promise<{ format: ImageFormat; pixels: number }> {
  const format = detectFormat(bytes);
  checkFormat(format);
  const pixels = await checkSize(bytes, format);
  if (format === "jpeg") checkScans(bytes);
  return { format, pixels };
}

async function decode(bytes: Uint8Array, format: ImageFormat): Promise<Photo> {
  try {
    const { data, info } = await sharp(bytes, { failOn: "error", limitInputPixels: MAX_PIXELS })
      .autoOrient()
      .flatten({ background: "white" })
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data };
  } catch {
    throw undecodable(bytes, format);
  }
}

function checkFormat(format: ImageFormat): void {
  if (format === "heic") {
    throw new PipelineError(
      "image_format_heic",
      "HEIC photos are not supported: send the photo as JPEG, PNG, WebP or AVIF",
    );
  }
  if (format === "unsupported") {
    throw new PipelineError(
      "image_format_unsupported",
      "This image format is not supported: send the photo as JPEG, PNG, WebP or AVIF",
    );
  }
  if (format === "unknown") {
    throw new PipelineError(
      "image_not_decodable",
      "The file is not an image: send a photo as JPEG, PNG, WebP or AVIF",
    );
  }
}

/** Reads the header alone; sharp decodes no pixel for it. @returns how many there are */
async function checkSize(bytes: Uint8Array, format: ImageFormat): Promise<number> {
  const header = await sharp(bytes, { failOn: "error", limitInputPixels: false }).metadata().catch(() => {
    throw undecodable(bytes, format);
  });
  const { width, height } = header;
  if (width * height > MAX_PIXELS) {
    throw new PipelineError(
      "image_too_large",
      `The photo has ${width} x ${height} pixels, at most ${
        MAX_PIXELS / 1e6
      } megapixels are read: scale it down`,
      { width, height, limit: MAX_PIXELS },
    );
  }
  if (Math.max(width, height) > MAX_SIDE) {
    throw new PipelineError(
      "image_too_large",
      `The photo has ${width} x ${height} pixels, at most ${MAX_SIDE} a side are read: scale it down`,
      { width, height, limit: MAX_SIDE },
    );
  }
  return width * height;
}

/** Nothing stops a decoder once it has begun, so it does not begin with what would take it minutes. */
function checkScans(bytes: Uint8Array): void {
  const scans = countScans(bytes);
  if (scans > MAX_SCANS) {
    throw new PipelineError(
      "image_not_decodable",
      `The photo is a JPEG of ${scans} scans, at most ${MAX_SCANS} are read: save it again and send that`,
    );
  }
}

function undecodable(bytes: Uint8Array, format: ImageFormat): PipelineError {
  return isCutOff(bytes, format)
    ? new PipelineError(
      "image_truncated",
      "The photo ends before all of its pixels came: send the whole file",
    )
    : new PipelineError("image_not_decodable", "The photo's data is damaged: save it again and send that");
}
