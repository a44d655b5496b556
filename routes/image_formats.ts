/** Which format a portrait is sent in: `Accept` (RFC 9110, 12.5.1). */

import type { Context } from "hono";
import { accepts } from "hono/accepts";
import { type FileFormat, reencodeImage } from "../pipeline/reencode_image.ts";
import type { GeneratedImage } from "../pipeline/protocol.ts";
import type { AppEnv } from "./app_options.ts";

/** An image file. */
export interface ImageFile {
  readonly contentType: string;
  readonly data: Uint8Array<ArrayBuffer>;
}

/** Media types by how small their files are. */
const formats: Readonly<Record<string, FileFormat>> = {
  "image/avif": "avif",
  "image/webp": "webp",
  "image/jpeg": "jpeg",
  "image/png": "png",
};

/**
 * Gives a portrait in the format its reader prefers by name; who names none gets it as it was made.
 *
 * @param c the request
 * @param image the portrait as it was made
 * @returns the same file, or another that says that it is synthetic as well
 */
export async function negotiateFormat(
  c: Context<AppEnv>,
  { contentType, data }: GeneratedImage,
): Promise<ImageFile> {
  const supports = [contentType, ...Object.keys(formats).filter((type) => type !== contentType)];
  const wanted = accepts(c, { header: "Accept", supports, default: contentType });
  const format = formats[wanted];
  if (wanted === contentType || format === undefined) return { contentType, data };
  return { contentType: wanted, data: await reencodeImage(data, format) };
}
