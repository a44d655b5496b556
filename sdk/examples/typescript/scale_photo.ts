/** Scales a photo down before it is sent, in a browser: a phone's photo has 12 million pixels, a face needs few of them. */

/**
 * Scales a photo down, upright, and drops its metadata (place, time, device).
 *
 * @param file of an `<input type="file" accept="image/*">`
 * @param longestSide pixels; a smaller photo keeps its size
 * @returns a JPEG file
 */
export async function scalePhoto(file: Blob, longestSide = 1024): Promise<Blob> {
  const photo = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, longestSide / Math.max(photo.width, photo.height));
  const width = Math.round(photo.width * scale);
  const height = Math.round(photo.height * scale);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d")!;
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, 0, 0, width, height);
  photo.close();
  return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}
