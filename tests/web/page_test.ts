/** The page as a person uses it, on a phone and on a desktop. */

import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";
import { emptyScene } from "../routes/bad_photos.ts";
import { type Answer, answerInstead, badGateway, pathOf, problem } from "./answers.ts";
import { violations } from "./axe.ts";
import { face, openStage, type Size, type Visit, webTest as test } from "./browser.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
/** set by `deno task screenshots`: the pictures of README.md are made anew */
const screenshots = Deno.env.get("WEB_SCREENSHOTS") === "1";

const stage = await openStage();
const folder = await Deno.makeTempDir();
Deno.test.afterAll(() => Deno.remove(folder, { recursive: true }));

/** What a person sees: a desktop's window, or a phone at the form and at the portraits side by side. */
async function screenshot({ page }: Visit, size: Size): Promise<void> {
  const look = async (scroll: string) => {
    await page.evaluate(`document.activeElement.blur(), ${scroll}`);
    return sharp(await page.screenshot());
  };
  let picture = await look("window.scrollTo(0, 0)");
  if (size === "phone") {
    const gap = 40;
    const [form, portraits] = [
      await picture.png().toBuffer(),
      await (await look('document.querySelector("#stage").scrollIntoView()')).png().toBuffer(),
    ];
    const { width, height } = await sharp(form).metadata();
    const both = await sharp({
      create: { width: width * 2 + gap, height, channels: 4, background: "#0000" },
    }).composite([{ input: form, left: 0, top: 0 }, { input: portraits, left: width + gap, top: 0 }]).png()
      .toBuffer();
    picture = sharp(both).resize({ width: 760 });
  }
  const file = join(repository, `docs/images/web-${size}.png`);
  await picture.png({ palette: true, quality: 90, compressionLevel: 9 }).toFile(file);
  ok((await Deno.stat(file)).size < 200_000, `${file} is too large`);
}

for (const size of ["phone", "desktop"] as const) {
  test(`${size}: from photo to gallery, kept, and again with the same seed`, async () => {
    await using visit = await stage.visit(size);
    const { page } = visit;
    deepEqual(await violations(visit), [], "before anything is chosen");
    await visit.choosePhoto(face);
    await visit.waitForText("#check", /This photo will do/);
    await page.click('input[name=noun][value="woman"]');
    for (const word of ["laughing", "smiling"]) {
      await page.locator(`::-p-xpath(//button[text()="${word}"])`).click();
    }
    equal(
      await page.$eval("#prompt", (element) => (element as unknown as { value: string }).value),
      "a portrait of a woman, smiling",
    );
    await visit.slide("#count", 2);
    await page.type("#seed", "42");
    await visit.waitForText("#price", /^\d+ credits, charged when they succeed/);
    const price = Number((await visit.text("#price")).split(" ")[0]);
    const before = await visit.credits();
    await visit.make();
    await page.waitForSelector("#tiles .waiting img:not([hidden])");
    await visit.waitForPortraits(2);
    await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(before - price)));
    const captions = await page.$$eval("#tiles .caption span", (spans) => spans.map((s) => s.textContent));
    match(captions[0]!, /^Seed 42(, likeness -?\d\.\d\d)?$/);
    match(captions[1]!, /^Seed 43/);
    const widths = await page.$$eval(
      "#tiles img",
      (images) => images.map((image) => (image as unknown as { naturalWidth: number }).naturalWidth),
    );
    ok(widths.every((width) => width >= 128), "the pictures are shown");
    await page.waitForSelector("#history-list button");
    deepEqual(await violations(visit), [], "with portraits");
    equal(await visit.sidewaysScroll(), 0);
    if (screenshots) await screenshot(visit, size);

    const other = join(folder, "other.jpg");
    await Deno.writeFile(other, await emptyScene());
    await visit.choosePhoto(other);
    await visit.waitForText("#check", /No face found/);
    await page.locator('[aria-label="Again with seed 43"]').click();
    await visit.waitForText("#check", /This photo will do/);
    equal(await page.$eval("#seed", (element) => (element as unknown as { value: string }).value), "43");
    equal(await visit.text("#count-text"), "1");

    await page.reload({ waitUntil: "networkidle0" });
    await page.locator("#history-list button").click();
    await page.waitForSelector("#tiles .caption");
    equal((await page.$$("#tiles .caption")).length, 2, "kept in this browser");
    await page.locator('[aria-label="Again with seed 43"]').click();
    await visit.make();
    await visit.waitForPortraits(1);
    match(await visit.text("#tiles .caption span"), /^Seed 43/);
    deepEqual(visit.errors, []);
  });
}

test("canceled in the middle, nothing is charged", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const before = await visit.credits();
  await visit.begin(8);
  await page.click("#cancel");
  await visit.waitForText("#said", /^Canceled\. Nothing was charged\./);
  await page.waitForSelector("#make:enabled");
  equal((await page.$$("#tiles li")).length, 0);
  equal(await visit.watched(), null);
  await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(before)));
  deepEqual(visit.errors, []);
});

test("a photo without a face is told with what to do, and none can be made of it", async () => {
  await using visit = await stage.visit("phone");
  const path = join(folder, "scene.jpg");
  await Deno.writeFile(path, await emptyScene());
  await visit.choosePhoto(path);
  await visit.waitForText("#check", /No face found\. Choose a photo/);
  equal(await visit.page.$("#make:enabled"), null);
  deepEqual(await violations(visit), []);
  await Deno.writeTextFile(path, "no photo at all");
  await visit.choosePhoto(path);
  await visit.waitForText("#check", /cannot read that file/);
  deepEqual(visit.errors, []);
});

test("what is found in a photo says nothing of the file chosen after it", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const held = Promise.withResolvers<void>();
  const canceled = Promise.withResolvers<void>();
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (pathOf(request) === "/v1/faces") held.resolve();
    else void request.continue();
  });
  page.on("requestfailed", (request) => {
    if (pathOf(request) === "/v1/faces") canceled.resolve();
  });
  await visit.choosePhoto(face);
  await held.promise;
  const path = join(folder, "no_photo.jpg");
  await Deno.writeTextFile(path, "no photo at all");
  await visit.choosePhoto(path);
  await visit.waitForText("#check", /cannot read that file/);
  await canceled.promise;
  match(await visit.text("#check"), /cannot read that file/);
  equal(await page.$("#make:enabled"), null);
  deepEqual(visit.errors, []);
});

test("a large photo that lies on its side is turned upright, made smaller and taken", async () => {
  await using visit = await stage.visit("phone");
  const path = join(folder, "sideways.jpg");
  // two steps, because sharp turns before it resizes
  const large = await sharp(face).resize(2400, 3000, { fit: "cover", position: "top" }).toBuffer();
  await sharp(large).rotate(270).withMetadata({ orientation: 6 }).jpeg().toFile(path);
  await visit.choosePhoto(path);
  await visit.waitForText("#check", /will do/);
  deepEqual(
    await visit.page.$eval("#photo", (element) => {
      const { naturalWidth, naturalHeight } = element as unknown as Record<string, number>;
      return [naturalWidth, naturalHeight];
    }),
    [1024, 1280],
  );
});

test("without credit the page says so, and a pasted token is used", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  await page.click("#token-open");
  deepEqual(await violations(visit), [], "the dialog");
  await page.type("#token", "no.such.token");
  await page.keyboard.press("Enter");
  // a bad token is put right by the development token
  await page.waitForFunction("sessionStorage.getItem('idadapter.token') !== 'no.such.token'");
  await page.click("#token-open");
  await page.type("#token", await signDevelopmentToken(stage.service.jwt, { subject: "poor" }));
  await page.keyboard.press("Enter");
  await visit.waitForText("#balance", /^0 credits/);
  await visit.choosePhoto(face);
  await visit.make();
  await visit.waitForText("#problem", /not enough credits.*Ask whoever runs this service/);
  match(await visit.text("#problem"), /insufficient_credits/);
  deepEqual(await violations(visit), []);
});

test("over plain http from elsewhere the page asks for a token, and makes portraits", async () => {
  await using visit = await stage.visit("phone", undefined, stage.otherAddress);
  const { page } = visit;
  equal(await page.evaluate("isSecureContext"), false);
  await page.waitForSelector("#token-dialog[open]");
  await page.type("#token", await signDevelopmentToken(stage.service.jwt));
  await page.keyboard.press("Enter");
  await visit.waitForText("#balance", /credits/);
  equal(await page.$("#token-dialog[open]"), null);
  await visit.choosePhoto(face);
  await visit.slide("#count", 1);
  await visit.make();
  await visit.waitForPortraits(1);
  deepEqual(visit.errors, []);
});

test("offline in the middle and back: the same generation goes on, and is paid once", async () => {
  await using visit = await stage.visit("phone");
  const { page } = visit;
  const before = await visit.credits();
  await visit.choosePhoto(face);
  await visit.slide("#count", 4);
  await visit.waitForText("#price", /^\d+ credits/);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const price = Number((await visit.text("#price")).split(" ")[0]);
  await visit.make();
  await visit.waitForText("#running-text", /Painting/);
  await page.setOfflineMode(true);
  await visit.waitForText("#offline", /still being made/);
  await visit.waitForText("#running-text", /Connection lost/);
  deepEqual(await violations(visit), []);
  await page.setOfflineMode(false);
  await visit.waitForPortraits(4);
  await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(before - price)));
  equal(await page.$eval("#offline", (element) => (element as unknown as { hidden: boolean }).hidden), true);
  deepEqual(visit.errors, []);
});

test("a request whose connection breaks is sent again under the same key", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  await visit.choosePhoto(face);
  await visit.slide("#count", 1);
  await page.waitForSelector("#make:enabled");
  const keys: (string | undefined)[] = [];
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (pathOf(request) !== "/v1/generations") return void request.continue();
    keys.push(request.headers()["idempotency-key"]);
    void (keys.length === 1 ? request.abort("connectionreset") : request.continue());
  });
  await visit.make();
  await visit.waitForPortraits(1);
  equal(keys.length, 2);
  match(keys[0] ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  equal(keys[0], keys[1]);
  deepEqual(visit.errors, []);
});

test("what passes is waited for, and for a token in the middle: no portrait is lost", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  await visit.begin(3);
  await page.setOfflineMode(true);
  await visit.waitForText("#running-text", /Connection lost/);
  // a refused token is renewed once, and the new one refused as well
  const refused = problem("token_key_unknown");
  const answers = [problem("rate_limit_exceeded"), badGateway, refused, refused];
  await answerInstead(visit, [/\/events$/, answers]);
  await page.setOfflineMode(false);
  await page.waitForSelector("#token-dialog[open]");
  deepEqual(answers, []);
  equal((await page.$$("#tiles li")).length, 3);
  ok(await visit.watched(), "the tab forgot what it watched");
  await page.type("#token", await signDevelopmentToken(stage.service.jwt));
  await page.keyboard.press("Enter");
  await visit.waitForPortraits(3);
  equal(await visit.watched(), null);
  const other = join(folder, "other.jpg");
  await Deno.writeFile(other, await emptyScene());
  await visit.choosePhoto(other);
  await visit.waitForText("#check", /No face found/);
  await page.locator('[aria-label^="Again with seed"]').click();
  await visit.waitForText("#check", /This photo will do/);
  deepEqual(visit.errors, []);
});

test("finished portraits stay when the last answers do not come at once", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const state: Answer[] = [problem("token_key_unknown"), problem("token_key_unknown")];
  const events: Answer[] = [];
  const picture: Answer[] = [];
  await answerInstead(visit, [/\/gen_[^/]+$/, state], [/\/events$/, events], [
    /\/images\/0$/,
    picture,
  ]);
  await visit.begin(1);
  const active = await visit.watched();
  await visit.waitForPortraits(1);
  await page.waitForSelector("#history-list button");
  equal(await visit.watched(), null);
  equal(state.length, 2, "the last event tells it all");

  // where the events are forgotten, state and picture are asked for by themselves
  events.push({ status: 204 });
  state.splice(0, 2, problem("rate_limit_exceeded"), badGateway);
  picture.push("lost", problem("image_store_unavailable"));
  await page.evaluate((active) => sessionStorage.setItem("idadapter.active", active!), active);
  await page.reload();
  await visit.waitForPortraits(1);
  deepEqual([events, state, picture], [[], [], []]);
  equal(await visit.watched(), null);
  deepEqual(visit.errors, []);
});

test("a generation that is gone is not watched any longer", async () => {
  await using visit = await stage.visit("desktop");
  const active = { id: "gen_gone", key: "key", request: { prompt: "a person", num_images: 1 } };
  await visit.page.evaluate(
    (text) => sessionStorage.setItem("idadapter.active", text),
    JSON.stringify(active),
  );
  await visit.page.reload();
  await visit.waitForText("#problem", /no such generation/);
  equal((await visit.page.$$("#tiles li")).length, 0);
  equal(await visit.watched(), null);
});

test("without a network, the service on the same machine makes portraits", async () => {
  await using visit = await stage.visit("desktop", async (page) => {
    await page.evaluateOnNewDocument(
      'Object.defineProperty(Navigator.prototype, "onLine", { get: () => false })',
    );
  });
  const posts: Answer[] = ["lost"];
  await answerInstead(visit, [/\/generations$/, posts]);
  await visit.choosePhoto(face);
  await visit.slide("#count", 1);
  await visit.make();
  await visit.waitForPortraits(1);
  deepEqual(posts, []);
  equal(await visit.page.$("#offline:not([hidden])"), null);
  deepEqual(visit.errors, []);
});

test("forced colours show what can be pressed, what is chosen and how far it is", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const session = await page.createCDPSession();
  await session.send("Emulation.setEmulatedMedia", {
    features: [{ name: "forced-colors", value: "active" }],
  });
  await page.locator('::-p-xpath(//button[text()="smiling"])').click();
  await page.evaluate(`document.activeElement.blur();
    document.querySelector("#running").hidden = false;
    document.querySelector("#progress").value = 0.5`);
  await page.mouse.move(0, 0);
  /** The colour at a place of an element, told in shares of its width and height. */
  const colorAt = async (selector: string, x: number, y: number) => {
    const element = await page.$(selector);
    const { data, info } = await sharp(await element!.screenshot()).raw().toBuffer({
      resolveWithObject: true,
    });
    const start = (Math.floor(y * info.height) * info.width + Math.floor(x * info.width)) * info.channels;
    return data.subarray(start, start + 3).toString("hex");
  };
  const expectOther = async (one: Parameters<typeof colorAt>, other: Parameters<typeof colorAt>) =>
    notEqual(await colorAt(...one), await colorAt(...other), one[0]);
  await expectOther(["button[aria-pressed=true]", 0.1, 0.5], ["button[aria-pressed=false]", 0.1, 0.5]);
  await expectOther(["input:checked + span", 0.15, 0.5], ["input:not(:checked) + span", 0.15, 0.5]);
  await expectOther(["#progress", 0.25, 0.5], ["#progress", 0.75, 0.5]);
  for (const button of ["#choose", "#make", "#token-open"]) {
    await expectOther([button, 0.5, 0], [button, 0.5, 0.1]);
  }
});

test("a photo is taken from the camera, the clipboard, and whatever is dropped", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const expectPhoto = async () => {
    // Chromium's camera for tests and the page's own icon show nobody
    await visit.waitForText("#check", /No face found/);
    await page.evaluate("document.querySelector('#check').replaceChildren()");
  };
  await page.click("#camera");
  await page.waitForSelector("#camera-take:enabled");
  deepEqual(await violations(visit), [], "the camera's dialog");
  await page.click("#camera-take");
  await expectPhoto();
  equal(await page.$("#camera-dialog[open]"), null);
  for (
    const [type, field, event] of [["paste", "clipboardData", "ClipboardEvent"], [
      "drop",
      "dataTransfer",
      "DragEvent",
    ]]
  ) {
    await page.evaluate(`(async () => {
      const icon = await (await fetch(document.querySelector("link[rel=apple-touch-icon]").href)).blob();
      const data = new DataTransfer();
      data.items.add(new File([icon], "icon.png", { type: "image/png" }));
      document.body.dispatchEvent(new ${event}("${type}", { bubbles: true, cancelable: true, ${field}: data }));
    })()`);
    await expectPhoto();
  }
  deepEqual(visit.errors, []);
});

test("loaded again in the middle, the page takes up what it was watching", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  await visit.begin(3);
  await page.reload();
  await visit.waitForPortraits(3);
  deepEqual(visit.errors, []);
});

test("the page opens without a connection once it was there, with its earlier portraits", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  await page.evaluate("navigator.serviceWorker.ready.then(() => true)");
  await page.reload({ waitUntil: "networkidle0" });
  const cached = await page.evaluate(
    "caches.keys().then(async ([name]) => (await (await caches.open(name)).keys()).map(({ url }) => new URL(url).pathname))",
  ) as string[];
  ok(cached.includes("/") && cached.every((path) => path === "/" || path.startsWith("/web/")), `${cached}`);
  await page.setOfflineMode(true);
  await page.reload();
  await visit.waitForText("#offline", /You are offline/);
  equal(await page.title(), "IDAdapter: portraits from one photo");
  equal((await page.$$("#suggestions button")).length > 10, true, "its scripts came from the cache");
});

test("it can all be done with the keyboard", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  await visit.choosePhoto(face);
  await visit.waitForText("#check", /This photo will do/);
  const reached = new Set<string>();
  for (let press = 0; press < 60; press++) {
    await page.keyboard.press("Tab");
    reached.add(
      await page.evaluate("document.activeElement.id || document.activeElement.name || ''") as string,
    );
    if (reached.has("make")) break;
  }
  for (const id of ["choose", "camera", "noun", "prompt", "count", "strength", "poses", "seed", "make"]) {
    ok(reached.has(id), `${id} is out of reach`);
  }
  await page.keyboard.press("Enter");
  await visit.waitForPortraits(2);
});

test("the first load weighs at most 150 kB, all of it from here and compressed", async () => {
  const context = await stage.browser.createBrowserContext();
  const page = await context.newPage();
  const session = await page.createCDPSession();
  await session.send("Network.enable");
  let bytes = 0;
  session.on("Network.loadingFinished", ({ encodedDataLength }) => bytes += encodedDataLength);
  await page.goto(stage.service.address, { waitUntil: "networkidle0" });
  await context.close();
  console.log(`first load: ${(bytes / 1000).toFixed(1)} kB`);
  ok(bytes > 5_000 && bytes < 150_000, `${bytes} bytes`);
});
