/** A portrait's file: formats by `Accept`, parts by `Range`; a real picture, made by a script. */

import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import sharp from "sharp";
import { DIGITAL_SOURCE_TYPE, encodeImage } from "../../pipeline/encode_image.ts";
import { decodePhoto } from "../../pipeline/photo.ts";
import { expectProblem } from "./expect_problem.ts";
import { readFacePhoto } from "./real_model.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asJson, startService } from "./test_service.ts";

/** Encodes a photo with everything a phone writes into it. */
async function phonePhoto(): Promise<Uint8Array> {
  return await sharp(await readFacePhoto()).resize(64).withExif({
    IFD0: { Make: "Phone", Copyright: "somebody" },
    IFD3: { GPSLatitude: "51/1 30/1 0/1", GPSLatitudeRef: "N" },
  }).withIccProfile("p3").jpeg().toBuffer();
}

/** Starts a service with one finished PNG; gives its address. */
async function start() {
  const picture = await decodePhoto(await phonePhoto());
  const inference = scriptInference({
    generate: async (input) => {
      const output = outputOf(input);
      const { data } = await encodeImage(picture, input.outputFormat);
      return { ...output, images: output.images.map((image) => ({ ...image, data })) };
    },
  });
  const service = await startService({ model: () => ({ manifest: testManifest, inference }) });
  const body = { reference_images: ["AQID"], prompt: "a smile", class_noun: "woman" };
  const { images: [image] } = await (await service.call("/v1/generations", asJson(body))).json();
  const get = (headers: Record<string, string> = {}, method = "GET") =>
    service.call(image.url, { headers, method });
  return { service, get };
}

Deno.test("Accept chooses the format, every one says that it is synthetic and nothing of the photo's origin", async () => {
  const { service, get } = await start();
  await using _ = service;
  const tags = new Set<string>();
  const wanted: [string | undefined, string][] = [
    [undefined, "png"],
    ["*/*", "png"],
    ["image/gif", "png"],
    ["image/avif,image/webp,image/apng,*/*;q=0.8", "avif"],
    ["image/webp, image/png;q=0.5", "webp"],
    ["image/jpeg", "jpeg"],
  ];
  for (const [accept, format] of wanted) {
    const response = await get(accept === undefined ? {} : { Accept: accept });
    equal(response.status, 200);
    equal(response.headers.get("Content-Type"), `image/${format}`, accept);
    match(response.headers.get("Vary") ?? "", /\bAccept\b/);
    match(response.headers.get("ETag") ?? "", /^"[0-9a-f]{32}"$/);
    tags.add(response.headers.get("ETag") ?? "");
    const bytes = await response.bytes();
    const metadata = await sharp(bytes).metadata();
    equal(metadata.format, format === "avif" ? "heif" : format);
    ok(metadata.xmpAsString?.includes(DIGITAL_SOURCE_TYPE), format);
    deepEqual([metadata.exif, metadata.icc, metadata.iptc], [undefined, undefined, undefined], format);
    ok(!new TextDecoder("latin1").decode(bytes).includes("somebody"));
    const again = await get({
      ...(accept === undefined ? {} : { Accept: accept }),
      "If-None-Match": response.headers.get("ETag")!,
    });
    equal(again.status, 304, format);
    equal((await again.bytes()).length, 0);
  }
  equal(tags.size, 4);
});

Deno.test("one range of bytes, for a download that was cut off", async () => {
  const { service, get } = await start();
  await using _ = service;
  const response = await get();
  equal(response.headers.get("Accept-Ranges"), "bytes");
  const whole = await response.bytes();
  const tag = response.headers.get("ETag") ?? "";
  const { length } = whole;
  const parts: [string, number, number][] = [
    ["bytes=0-99", 0, 100],
    ["bytes=100-", 100, length],
    ["bytes=-10", length - 10, length],
    [`bytes=-${length + 1}`, 0, length],
    [`bytes=5-${length + 100}`, 5, length],
  ];
  for (const [Range, from, to] of parts) {
    const part = await get({ Range, "If-Range": tag });
    equal(part.status, 206, Range);
    equal(part.headers.get("Content-Range"), `bytes ${from}-${to - 1}/${length}`);
    equal(part.headers.get("ETag"), tag);
    deepEqual(await part.bytes(), whole.slice(from, to));
  }
  const all: Record<string, string>[] = [
    { Range: "bytes=0-9", "If-Range": '"another"' },
    { Range: "bytes=0-9", "If-Range": `W/${tag}` },
    { Range: "bytes=0-1,5-6" },
    { Range: "lines=0-1" },
    { Range: "nonsense" },
    { Range: "bytes=abc" },
    { Range: "bytes=5-2" },
    { Range: "bytes=-" },
  ];
  for (const headers of all) {
    const answer = await get(headers);
    equal(answer.status, 200, JSON.stringify(headers));
    deepEqual(await answer.bytes(), whole);
  }
  for (const Range of [`bytes=${length}-`, "bytes=-0"]) {
    const beyond = await get({ Range });
    equal(beyond.headers.get("Content-Range"), `bytes */${length}`);
    await expectProblem(beyond, "range_not_satisfiable");
  }
  const head = await get({ Range: "bytes=0-9" }, "HEAD");
  equal(head.status, 200);
  equal((await head.bytes()).length, 0);
  const webp = await get({ Accept: "image/webp", Range: "bytes=0-9", "If-Range": tag });
  equal(webp.status, 200, "a part of another format is no part of this one");
  notEqual(webp.headers.get("ETag"), tag);
  await webp.body?.cancel();
});
