/** A photo as a phone takes it, and what must have become of it. */

import { deepEqual, equal, ok } from "node:assert/strict";
import sharp from "sharp";

/**
 * Makes a camera's landscape photo, held upright: its left third is red, which is the top third when it is turned.
 *
 * @returns a JPEG file of 2400 x 1800 pixels with metadata
 */
export async function turnedPhoto(): Promise<Uint8Array<ArrayBuffer>> {
  const red = { create: { width: 800, height: 1800, channels: 3, background: "red" } } as const;
  const file = await sharp({ create: { width: 2400, height: 1800, channels: 3, background: "blue" } })
    .composite([{ input: red, left: 0, top: 0 }])
    // 6: turn it a quarter clockwise to see it upright
    .withExif({ IFD0: { Copyright: "somebody" } }).withMetadata({ orientation: 6 }).jpeg().toBuffer();
  equal((await sharp(file).metadata()).orientation, 6);
  return new Uint8Array(file);
}

/**
 * Checks that {@linkcode turnedPhoto} was scaled to 1024 pixels, stands upright and has lost its metadata.
 *
 * @param scaled the file an example made of it
 */
export async function expectUpright(scaled: Uint8Array): Promise<void> {
  const { format, width, height, exif, orientation } = await sharp(scaled).metadata();
  deepEqual({ format, width, height, exif, orientation }, {
    format: "jpeg",
    width: 768,
    height: 1024,
    exif: undefined,
    orientation: undefined,
  });
  const [top, bottom] = await Promise.all(
    [100, 900].map((y) => sharp(scaled).extract({ left: 384, top: y, width: 1, height: 1 }).raw().toBuffer()),
  );
  ok(top![0]! > 200 && top![2]! < 60, `red on top: ${[...top!]}`);
  ok(bottom![2]! > 200 && bottom![0]! < 60, `blue below: ${[...bottom!]}`);
}
