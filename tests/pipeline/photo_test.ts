import assert from "node:assert/strict";
import { crc32, deflateSync } from "node:zlib";
import sharp, { type Sharp } from "sharp";
import { fitToSquare } from "../../pipeline/detection.ts";
import { countScans } from "../../pipeline/jpeg_scans.ts";
import { decodePhoto, MAX_PIXELS, MAX_SCANS, MAX_SIDE, type Photo, withPhoto } from "../../pipeline/photo.ts";
import { PipelineError, type PipelineErrorCode } from "../../pipeline/protocol.ts";
import { delay } from "../delay.ts";

/** Left half red, right half blue, 60 x 40. */
function twoColors(): Sharp {
  const data = new Uint8Array(60 * 40 * 3);
  for (let pixel = 0; pixel < 60 * 40; pixel++) data[3 * pixel + (pixel % 60 < 30 ? 0 : 2)] = 255;
  return sharp(data, { raw: { width: 60, height: 40, channels: 3 } });
}

/** Detail enough that its compressed data is long. */
function noisyPicture(): Sharp {
  const noise = { type: "gaussian", mean: 128, sigma: 30 } as const;
  return sharp({ create: { width: 64, height: 64, channels: 3, background: "red", noise } });
}

function pixel({ width, data }: Photo, x: number, y: number): number[] {
  return [...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)];
}

function assertNear(actual: number[], expected: number[], slack: number): void {
  actual.forEach((value, index) =>
    assert.ok(Math.abs(value - expected[index]!) <= slack, `${actual} is not ${expected}`)
  );
}

async function assertRefused(bytes: Uint8Array, code: PipelineErrorCode): Promise<PipelineError> {
  const error = await decodePhoto(bytes).then(() => assert.fail(`decoded, not ${code}`), (error) => error);
  assert.ok(error instanceof PipelineError, String(error));
  assert.equal(error.code, code);
  assert.ok(!/vips|heif|buffer|\//i.test(error.message), `the message tells of the inside: ${error.message}`);
  return error;
}

Deno.test("JPEG, PNG, WebP and AVIF are read, told by content", async () => {
  for (const format of ["jpeg", "png", "webp", "avif"] as const) {
    const photo = await decodePhoto(await twoColors()[format]({ quality: 95 }).toBuffer());
    assert.deepEqual([photo.width, photo.height, photo.data.length], [60, 40, 60 * 40 * 3], format);
    assertNear(pixel(photo, 5, 20), [255, 0, 0], 12);
    assertNear(pixel(photo, 55, 20), [0, 0, 255], 12);
  }
});

Deno.test("EXIF orientation is applied", async () => {
  const sideways = await twoColors().withMetadata({ orientation: 6 }).jpeg({ quality: 95 }).toBuffer();
  const photo = await decodePhoto(sideways);
  assert.deepEqual([photo.width, photo.height], [40, 60]);
  // Orientation 6 is shown turned a quarter clockwise: what was left is on top.
  assertNear(pixel(photo, 20, 5), [255, 0, 0], 12);
  assertNear(pixel(photo, 20, 55), [0, 0, 255], 12);
});

Deno.test("transparency is laid on white", async () => {
  const clear = { r: 0, g: 0, b: 0, alpha: 0 };
  const image = sharp({ create: { width: 8, height: 8, channels: 4, background: clear } });
  for (const format of ["png", "webp", "avif"] as const) {
    assertNear(pixel(await decodePhoto(await image.clone()[format]().toBuffer()), 3, 3), [255, 255, 255], 2);
  }
});

Deno.test("greyscale, grey with alpha, CMYK and 16-bit pictures become 8-bit RGB", async () => {
  const grey = sharp(new Uint8Array(64).fill(100), { raw: { width: 8, height: 8, channels: 1 } });
  const greyAlpha = sharp(new Uint8Array(128).fill(255), { raw: { width: 8, height: 8, channels: 2 } });
  const pictures: [Uint8Array, number[]][] = [
    [await grey.clone().toColourspace("b-w").png().toBuffer(), [100, 100, 100]],
    [await greyAlpha.toColourspace("b-w").png().toBuffer(), [255, 255, 255]],
    [await grey.clone().toColourspace("b-w").jpeg().toBuffer(), [100, 100, 100]],
    [await twoColors().toColourspace("rgb16").png().toBuffer(), [255, 0, 0]],
  ];
  for (const [bytes, expected] of pictures) {
    const photo = await decodePhoto(bytes);
    assert.equal(photo.data.length, photo.width * photo.height * 3);
    assertNear(pixel(photo, 2, 2), expected, 2);
  }
  const cmyk = await twoColors().toColourspace("cmyk").jpeg({ quality: 95 }).toBuffer();
  assert.equal((await sharp(cmyk).metadata()).space, "cmyk");
  const [red, , blue] = pixel(await decodePhoto(cmyk), 5, 20) as [number, number, number];
  assert.ok(red > 180 && blue < 80, "the CMYK picture's left half is red");
});

Deno.test("photos that end early are told as truncated", async () => {
  for (const format of ["jpeg", "png", "webp", "avif"] as const) {
    const bytes = await noisyPicture()[format]().toBuffer();
    await assertRefused(bytes.subarray(0, bytes.length >> 1), "image_truncated");
    await assertRefused(bytes.subarray(0, 60), "image_truncated");
  }
});

Deno.test("what is no image, or damaged, is not decodable", async () => {
  await assertRefused(new Uint8Array(0), "image_not_decodable");
  await assertRefused(new TextEncoder().encode("hello, this is no image"), "image_not_decodable");
  const png = new Uint8Array(await noisyPicture().png().toBuffer());
  const middle = png.length >> 1;
  for (let at = middle; at < middle + 40; at++) png[at]! ^= 0x5a;
  await assertRefused(png, "image_not_decodable");
});

Deno.test("other formats are refused by content", async () => {
  const svg = `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>`;
  await assertRefused(new TextEncoder().encode(svg), "image_format_unsupported");
  await assertRefused(await twoColors().gif().toBuffer(), "image_format_unsupported");
  await assertRefused(await twoColors().tiff().toBuffer(), "image_format_unsupported");
  const heic = new Uint8Array(40);
  heic.set(new TextEncoder().encode("\0\0\0\x18ftypheic\0\0\0\0mif1heic"));
  const error = await assertRefused(heic, "image_format_heic");
  assert.match(error.message, /HEIC/);
});

Deno.test("a 30,000 x 30,000 photo is refused from its header, at once", async () => {
  const png = hugePng(30_000, 30_000);
  const start = performance.now();
  const error = await assertRefused(png, "image_too_large");
  assert.deepEqual(error.details, { width: 30_000, height: 30_000, limit: MAX_PIXELS });
  assert.ok(performance.now() - start < 1000, "no pixel was decoded");
});

Deno.test("the limit is 40 megapixels, inclusive", async () => {
  assert.equal(MAX_PIXELS, 40_000_000);
  await assertRefused(hugePng(8000, 5001), "image_too_large");
  // Within the limit the size is no complaint, the missing pixels are.
  const error = await decodePhoto(hugePng(8000, 5000)).catch((error) => error);
  assert.notEqual(error.code, "image_too_large");
});

Deno.test("a photo that is all row or all column is read up to 65,535 pixels, and refused from its header beyond", async () => {
  for (const [width, height] of [[MAX_SIDE + 1, 1], [1, MAX_SIDE + 1], [40_000_000, 1]] as const) {
    const error = await assertRefused(hugePng(width, height), "image_too_large");
    assert.deepEqual(error.details, { width, height, limit: 65_535 });
  }
  for (const [width, height] of [[MAX_SIDE, 1], [1, MAX_SIDE]] as const) {
    const rows = new Uint8Array(height * (1 + 3 * width)).fill(90);
    for (let row = 0; row < height; row++) rows[row * (1 + 3 * width)] = 0;
    const photo = await decodePhoto(hugePng(width, height, deflateSync(rows)));
    assert.deepEqual([photo.width, photo.height], [width, height]);
    const { data } = fitToSquare(photo, 416);
    assert.equal(data.filter((value) => value === Math.fround(90 / 255)).length, 3 * 416);
  }
});

/** A PNG (RFC 2083) whose header promises `width` x `height` pixels; by default they never come. */
function hugePng(width: number, height: number, pixels = new Uint8Array([0x78, 0x9c])): Uint8Array {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, 2);
  const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  const end = chunk("IEND", new Uint8Array(0));
  const start = chunk("IHDR", new Uint8Array(header.buffer));
  return new Uint8Array([...signature, ...start, ...chunk("IDAT", pixels), ...end]);
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** A progressive JPEG of so many scans, each of which says once more what the first has said, in a byte. */
function manyScans(scans: number): Uint8Array {
  const segment = (marker: number, ...content: number[]) => [0xff, marker, 0, content.length + 2, ...content];
  const scan = [...segment(0xda, 1, 1, 0, 0, 0, 0), 0];
  return Uint8Array.from([
    [0xff, 0xd8],
    segment(0xdb, 0, ...Array(64).fill(1)),
    // 8 x 8 pixels of one component
    segment(0xc2, 8, 0, 8, 0, 8, 1, 1, 0x11, 0),
    // one code of one bit: the difference is 0
    segment(0xc4, 0, 1, ...Array(15).fill(0), 0),
    ...Array<number[]>(scans).fill(scan),
    [0xff, 0xd9],
  ].flat());
}

Deno.test("a JPEG of more scans than any camera writes is refused before it is decoded", async () => {
  const photo = await decodePhoto(manyScans(MAX_SCANS));
  assert.deepEqual([photo.width, photo.height, ...photo.data.subarray(0, 3)], [8, 8, 128, 128, 128]);
  for (const scans of [MAX_SCANS + 1, 50_000]) {
    const error = await assertRefused(manyScans(scans), "image_not_decodable");
    assert.match(error.message, new RegExp(`${scans} scans.*save it again`));
  }
});

Deno.test("scans are counted where a decoder finds them: not in other segments, not behind the end", async () => {
  const picture = noisyPicture();
  assert.equal(countScans(await picture.clone().jpeg().toBuffer()), 1);
  const progressive = new Uint8Array(await picture.clone().jpeg({ progressive: true }).toBuffer());
  const scans = countScans(progressive);
  assert.ok(scans > 5 && scans < 20, `${scans}`);
  const { data } = await decodePhoto(progressive);
  const scan = [0xff, 0xda, 0, 2];
  const [start, ...rest] = [progressive.subarray(0, 2), ...progressive.subarray(2)];
  const changed = (between: readonly number[], after: readonly number[] = []) =>
    Uint8Array.from([...start, ...between, ...rest, ...after]);
  const segment = [...scan, 0xff, 0xd9, ...scan, 0xff];
  const same = [
    // a thumbnail in EXIF, a comment, fill bytes
    changed([0xff, 0xe1, 0, segment.length + 2, ...segment]),
    changed([0xff, 0xff, 0xff, 0xfe, 0, segment.length + 2, ...segment]),
    // a comment that ends as a marker begins, and a byte that belongs to nothing
    changed([0xff, 0xfe, 0, 3, 0xff, 0xd9]),
    // a second picture, as in an MPO
    changed([], [...progressive]),
  ];
  for (const bytes of same) {
    assert.equal(countScans(bytes), scans);
    assert.deepEqual((await decodePhoto(bytes)).data, data);
  }
  // no length follows these, so none can hide a scan
  for (const marker of [0x00, 0x01, 0x02, 0xbf, 0xd0, 0xd7, 0xf0, 0xff]) {
    assert.equal(countScans(changed([0xff, marker, ...scan])), scans + 1, marker.toString(16));
  }
});

Deno.test("photos that are used at one time have no more pixels than the largest that is taken", async () => {
  const create = { width: 5000, height: 4000, channels: 3, background: "red" } as const;
  const half = await sharp({ create }).jpeg().toBuffer();
  const small = await twoColors().png().toBuffer();
  const used = { now: 0, most: 0 };
  const seen = Promise.withResolvers<void>();
  const use = async ({ width }: Photo) => {
    if (width < 5000) return;
    used.most = Math.max(used.most, ++used.now);
    await seen.promise;
    used.now--;
    throw new Error("of whoever uses it");
  };
  const bytes = [half, half, half, small, half];
  const ends = Promise.allSettled(bytes.map((one) => withPhoto(one, use)));
  while (used.now < 2) await delay(5);
  // time enough for a third, were there room
  await delay(300);
  assert.equal(used.now, 2);
  seen.resolve();
  const statuses = (await ends).map(({ status }) => status === "fulfilled");
  assert.deepEqual([statuses, used], [[false, false, false, true, false], { now: 0, most: 2 }]);
  // what is refused, or fails, takes no room
  for (let i = 0; i < 3; i++) await assert.rejects(withPhoto(hugePng(8000, 5000), use), PipelineError);
  await withPhoto(small, use);
});

Deno.test("the codec keeps nothing of a photo once it is read", async () => {
  await decodePhoto(await noisyPicture().png().toBuffer());
  const { memory, items } = sharp.cache();
  assert.deepEqual([memory.max, items.max, items.current], [0, 0, 0]);
});
