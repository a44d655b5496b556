import { deepEqual, equal, ok } from "node:assert/strict";
import type { Buffer } from "node:buffer";
import sharp from "sharp";
import { drawContactSheet } from "../../demo/contact_sheet.ts";

type Colour = readonly [red: number, green: number, blue: number];

const background: Colour = [242, 242, 240];

function plain(side: number, [r, g, b]: Colour): Promise<Buffer> {
  return sharp({ create: { width: side, height: side, channels: 3, background: { r, g, b } } }).png()
    .toBuffer();
}

/** Grey, 400 x 200, with a red square of 50 at (300, 20). */
async function photoWithFace(orientation?: number): Promise<Uint8Array> {
  const face = await plain(50, [255, 0, 0]);
  const photo = sharp({ create: { width: 400, height: 200, channels: 3, background: "#808080" } })
    .composite([{ input: face, left: 300, top: 20 }])
    .removeAlpha();
  const { data, info } = await photo.raw().toBuffer({ resolveWithObject: true });
  const image = sharp(data, { raw: { width: info.width, height: info.height, channels: 3 } });
  return await (orientation === undefined ? image : image.withMetadata({ orientation })).png().toBuffer();
}

/** Reads colours of a picture. */
async function colours(file: Uint8Array): Promise<(x: number, y: number) => Colour> {
  const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
  equal(info.channels, 3);
  return (x, y) => {
    const place = 3 * (y * info.width + x);
    return [data[place]!, data[place + 1]!, data[place + 2]!];
  };
}

const box = { x: 300, y: 20, width: 50, height: 50 };
const red: Colour = [255, 0, 0];

Deno.test("the reference's face at the left, portraits in order beside it, four a row", async () => {
  const shades = Array.from({ length: 5 }, (_, index): Colour => [0, 40 * index, 200]);
  // small ones are enlarged, large ones made smaller
  const portraits = await Promise.all(
    shades.map((shade, index) => plain(index % 2 === 0 ? 128 : 512, shade)),
  );
  const file = await drawContactSheet({ photo: await photoWithFace(), box }, portraits);
  const { width, height, format } = await sharp(file).metadata();
  deepEqual({ width, height, format }, {
    width: 12 + 256 + 24 + 4 * 268,
    height: 12 + 2 * 268,
    format: "png",
  });
  const colour = await colours(file);
  deepEqual(colour(140, 140), red);
  deepEqual(colour(280, 140), background);
  for (const [index, shade] of shades.entries()) {
    const [left, top] = [292 + (index % 4) * 268, 12 + Math.floor(index / 4) * 268];
    deepEqual(colour(left + 1, top + 1), shade, `portrait ${index}`);
    deepEqual(colour(left + 254, top + 254), shade, `portrait ${index}`);
    deepEqual(colour(left - 6, top + 128), background);
  }
  deepEqual(colour(140, 400), background);
});

Deno.test("one portrait makes a narrow sheet; the crop shows the face's surroundings and stays in the photo", async () => {
  const file = await drawContactSheet({ photo: await photoWithFace(), box }, [await plain(128, red)]);
  const { width, height } = await sharp(file).metadata();
  deepEqual({ width, height }, { width: 12 + 256 + 24 + 268, height: 280 });
  const colour = await colours(file);
  // the box is 50 of 80 pixels wide, 15 from the left; its top edge is 5 from the photo's
  deepEqual(colour(12 + 30, 140), [128, 128, 128]);
  deepEqual(colour(12 + 60, 140), red);
});

Deno.test("a photo that is stored on its side is shown upright, where the service saw the face", async () => {
  // turned by 90 degrees clockwise when shown: (x, y) of 400 x 200 becomes (200 - y, x)
  const turned = { x: 200 - 20 - 50, y: 300, width: 50, height: 50 };
  const file = await drawContactSheet({ photo: await photoWithFace(6), box: turned }, [await plain(64, red)]);
  deepEqual((await colours(file))(140, 140), red);
});

Deno.test("the sheet says that it is partly synthetic", async () => {
  const file = await drawContactSheet({ photo: await photoWithFace(), box }, [await plain(64, red)]);
  const { xmpAsString } = await sharp(file).metadata();
  ok(xmpAsString?.includes("digitalsourcetype/compositeWithTrainedAlgorithmicMedia"));
});
