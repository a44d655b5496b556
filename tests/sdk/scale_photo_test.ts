/** The TypeScript example's scaling in a real Chromium, where there is one. */

import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import sharp from "sharp";
import typescript from "typescript";
import { repository } from "./cut_connections.ts";
import { chromium } from "./toolchains.ts";

/** A camera's landscape photo, held upright: its left third is red, which is the top third when it is turned. */
async function turnedPhoto(): Promise<Uint8Array<ArrayBuffer>> {
  const red = { create: { width: 800, height: 1800, channels: 3, background: "red" } } as const;
  const file = await sharp({ create: { width: 2400, height: 1800, channels: 3, background: "blue" } })
    .composite([{ input: red, left: 0, top: 0 }])
    // 6: turn it a quarter clockwise to see it upright
    .withExif({ IFD0: { Copyright: "somebody" } }).withMetadata({ orientation: 6 }).jpeg().toBuffer();
  return new Uint8Array(file);
}

const page = `<script type="module">
  import { scalePhoto } from "/scale_photo.js";
  try {
    const photo = await (await fetch("/photo")).blob();
    await fetch("/scaled", { method: "POST", body: await scalePhoto(photo) });
  } catch (error) {
    await fetch("/failed", { method: "POST", body: String(error) });
  }
</script>`;

/** Serves the page until it sends what it made. */
async function scaleInBrowser(browser: string, photo: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const source = await Deno.readTextFile(join(repository, "sdk/examples/typescript/scale_photo.ts"));
  const { outputText } = typescript.transpileModule(source, {
    compilerOptions: { target: typescript.ScriptTarget.ES2022, module: typescript.ModuleKind.ESNext },
  });
  const profile = await Deno.makeTempDir();
  const scaled = Promise.withResolvers<Uint8Array>();
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    switch (new URL(request.url).pathname) {
      case "/":
        return new Response(page, { headers: { "Content-Type": "text/html" } });
      case "/scale_photo.js":
        return new Response(outputText, { headers: { "Content-Type": "text/javascript" } });
      case "/photo":
        return new Response(photo, { headers: { "Content-Type": "image/jpeg" } });
      case "/scaled":
        scaled.resolve(await request.bytes());
        return new Response();
      case "/failed":
        scaled.reject(new Error(await request.text()));
        return new Response();
      default:
        return new Response(null, { status: 404 });
    }
  });
  const address = `http://127.0.0.1:${server.addr.port}/`;
  const child = new Deno.Command(browser, {
    args: ["--headless=new", "--no-sandbox", "--disable-gpu", `--user-data-dir=${profile}`, address],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const timer = setTimeout(() => scaled.reject(new Error("Chromium sent nothing for a minute")), 60_000);
  try {
    return await scaled.promise;
  } finally {
    clearTimeout(timer);
    child.kill("SIGTERM");
    await child.status;
    await Deno.remove(profile, { recursive: true });
  }
}

Deno.test({
  name: "a browser scales a photo down, upright, without its metadata",
  ignore: chromium === undefined,
  fn: async () => {
    const photo = await turnedPhoto();
    equal((await sharp(photo).metadata()).orientation, 6);
    const scaled = await scaleInBrowser(chromium!, photo);
    const { format, width, height, exif, orientation } = await sharp(scaled).metadata();
    deepEqual({ format, width, height, exif, orientation }, {
      format: "jpeg",
      width: 768,
      height: 1024,
      exif: undefined,
      orientation: undefined,
    });
    const [top, bottom] = await Promise.all(
      [100, 900].map((y) =>
        sharp(scaled).extract({ left: 384, top: y, width: 1, height: 1 }).raw().toBuffer()
      ),
    );
    ok(top![0]! > 200 && top![2]! < 60, `red on top: ${[...top!]}`);
    ok(bottom![2]! > 200 && bottom![0]! < 60, `blue below: ${[...bottom!]}`);
  },
});
