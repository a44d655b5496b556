import type { Photo } from "../pipeline/photo.ts";

/** The photo of training/idadapter/fixture_alignment.py: sharp detail, another pattern in each channel. */
export function patternPhoto(width: number, height: number): Photo {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) data[at++] = (3 * x * x + 7 * y * (c + 1) + x * y) % 256;
    }
  }
  return { width, height, data };
}
