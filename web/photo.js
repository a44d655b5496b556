/** The chosen photo, made small enough to send. */

/** Longest side that is sent, in pixels: far more than the model looks at, little enough for a slow phone line. */
const LONGEST_SIDE = 1280;

function encode(canvas) {
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => blob ? resolve(blob) : reject(new Error("no JPEG")), "image/jpeg", 0.92)
  );
}

/** Draws a picture upright at its new size; drawing leaves all metadata behind, place and time among it. */
async function shrink(source, width, height) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  // where the photo is see-through, JPEG would show black
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return await encode(canvas);
}

/**
 * Turns a file into the JPEG that is sent: upright as its EXIF orientation says, at most 1280 pixels a side.
 *
 * @param {Blob} file anything this browser can show, HEIC where it can
 * @returns {Promise<Blob>} JPEG without metadata
 * @throws {Error} when the browser cannot read the file as a picture
 */
export async function preparePhoto(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  try {
    return await shrink(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/**
 * A still of a running video.
 *
 * @param {HTMLVideoElement} video
 * @returns {Promise<Blob>} JPEG
 */
export function photoFromVideo(video) {
  return shrink(video, video.videoWidth, video.videoHeight);
}
