import sharp, { type Sharp } from "sharp";
import type { FloatTensor } from "../models/tensor.ts";
import type { Photo } from "./photo.ts";
import type { GeneratedImage, OutputFormat } from "./protocol.ts";

/** IPTC's term for media made by a trained model, from its controlled vocabulary of digital source types. */
export const DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";

/** Says in every file that it is synthetic: IPTC Photo Metadata Standard 2023.1, "Digital Source Type". */
const XMP = `<?xpacket begin="\uFEFF" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>${DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>`;

/**
 * Has a picture's file say that it is synthetic.
 *
 * @param image about to be encoded
 * @returns the same, with the metadata
 *
 * @example
 * ```ts
 * const bytes = await markAsSynthetic(sharp(data, { raw })).png().toBuffer();
 * ```
 */
export function markAsSynthetic(image: Sharp): Sharp {
  return image.withXmp(XMP);
}

const CONTENT_TYPES = { png: "image/png", jpeg: "image/jpeg", webp: "image/webp" } as const;

/** An encoded picture. */
export type EncodedImage = Pick<GeneratedImage, "contentType" | "data">;

/**
 * Encodes a portrait and marks it as synthetic (XMP, IPTC digital source type).
 *
 * @param picture the portrait
 * @param format PNG is lossless, JPEG and WebP have quality 95 (JPEG without chroma subsampling)
 * @returns the file and its media type
 *
 * @example
 * ```ts
 * const { data, contentType } = await encodeImage(picture, "png");
 * ```
 */
export async function encodeImage(picture: Photo, format: OutputFormat): Promise<EncodedImage> {
  const { width, height, data } = picture;
  const image = markAsSynthetic(sharp(data, { raw: { width, height, channels: 3 } }));
  const encoded = format === "png"
    ? image.png()
    : format === "jpeg"
    ? image.jpeg({ quality: 95, chromaSubsampling: "4:4:4" })
    : image.webp({ quality: 95 });
  // A copy of its own, so that the file can be transferred between threads without Node's shared pool.
  return { contentType: CONTENT_TYPES[format], data: new Uint8Array(await encoded.toBuffer()) };
}

/**
 * Turns the decoder's output into a picture: value v becomes the byte nearest to 255 v.
 *
 * @param image [1, 3, height, width] RGB in 0..1
 * @throws {RangeError} when the tensor is not one RGB picture
 *
 * @example
 * ```ts
 * const picture = toPicture(await models.vaeDecoder(latent));
 * ```
 */
export function toPicture(image: FloatTensor): Photo {
  const [count, channels, height, width] = image.dims;
  if (count !== 1 || channels !== 3 || height === undefined || width === undefined) {
    throw new RangeError(`[${image.dims}] is not one RGB picture`);
  }
  const plane = width * height;
  const data = new Uint8Array(3 * plane);
  for (let channel = 0; channel < 3; channel++) {
    const values = image.data.subarray(channel * plane, (channel + 1) * plane);
    for (let pixel = 0, at = channel; pixel < plane; pixel++, at += 3) data[at] = 255 * values[pixel]! + 0.5;
  }
  return { width, height, data };
}
