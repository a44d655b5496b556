/** The examples' scaling: Python's, and the browser's in a real Chromium, where there is one. */

import { join } from "node:path";
import puppeteer from "puppeteer-core";
import typescript from "typescript";
import { repository, run } from "./cut_connections.ts";
import { chromium, withoutChromium } from "../chromium.ts";
import { ignored, named } from "./toolchains.ts";
import { expectUpright, turnedPhoto } from "./turned_photo.ts";

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
async function scaleInBrowser(executablePath: string, photo: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const source = await Deno.readTextFile(join(repository, "sdk/examples/typescript/scale_photo.ts"));
  const { outputText } = typescript.transpileModule(source, {
    compilerOptions: { target: typescript.ScriptTarget.ES2022, module: typescript.ModuleKind.ESNext },
  });
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
  const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const timer = setTimeout(() => scaled.reject(new Error("Chromium sent nothing for a minute")), 60_000);
  try {
    const tab = await browser.newPage();
    await tab.goto(`http://127.0.0.1:${server.addr.port}/`);
    return await scaled.promise;
  } finally {
    clearTimeout(timer);
    await browser.close();
  }
}

Deno.test({
  name: "a browser scales a photo down, upright, without its metadata" + withoutChromium,
  ignore: chromium === undefined,
  fn: async () => {
    const scaled = await scaleInBrowser(chromium!, await turnedPhoto());
    await expectUpright(scaled);
  },
});

Deno.test({
  name: named("Python scales a photo down, upright, without its metadata", ignored.python),
  ignore: ignored.python,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    await Deno.writeFile(join(folder, "photo.jpg"), await turnedPhoto());
    const program = "import pathlib, sys, portraits; folder = pathlib.Path(sys.argv[1]); " +
      "(folder / 'scaled.jpg').write_bytes(portraits.scale_photo(folder / 'photo.jpg'))";
    await run({
      command: "sdk/.venv/bin/python",
      args: ["-c", program, folder],
      env: { PYTHONPATH: "sdk/generated/python:sdk/examples/python" },
    });
    await expectUpright(await Deno.readFile(join(folder, "scaled.jpg")));
    await Deno.remove(folder, { recursive: true });
  },
});
