/** Which photo is taken, and what is no photo. */

import { deepEqual, equal } from "node:assert/strict";
import { join } from "node:path";
import { emptyScene } from "../routes/bad_photos.ts";
import { face, openStage, webTest as test } from "./browser.ts";

const stage = await openStage();

test("a photo that takes long to read does not replace the one chosen after it", async () => {
  await using visit = await stage.visit("desktop", async (page) => {
    await page.evaluateOnNewDocument(`
      const read = globalThis.createImageBitmap;
      globalThis.createImageBitmap = async (...how) => {
        globalThis.createImageBitmap = read;
        await new Promise((resolve) => globalThis.readFirst = resolve);
        const bitmap = await read(...how);
        globalThis.firstWasRead = true;
        return bitmap;
      };`);
  });
  const { page } = visit;
  const folder = await Deno.makeTempDir();
  const first = join(folder, "scene.jpg");
  await Deno.writeFile(first, await emptyScene());
  await visit.choosePhoto(first);
  await page.waitForFunction("globalThis.readFirst");
  await visit.choosePhoto(face);
  await visit.waitForText("#check", /This photo will do/);
  const shown = await page.$eval("#photo", (element) => element.getAttribute("src"));
  await page.evaluate("readFirst()");
  await page.waitForFunction("globalThis.firstWasRead");
  await page.waitForNetworkIdle();
  equal(await page.$eval("#photo", (element) => element.getAttribute("src")), shown);
  equal(await visit.text("#check"), "This photo will do: one clear face.");
  await Deno.remove(folder, { recursive: true });
  deepEqual(visit.errors, []);
});

test("while another photo is read, nothing is made of the one before", async () => {
  await using visit = await stage.visit("desktop", async (page) => {
    await page.evaluateOnNewDocument(`
      const read = globalThis.createImageBitmap;
      globalThis.hold = Promise.resolve();
      globalThis.createImageBitmap = async (...how) => {
        await globalThis.hold;
        return await read(...how);
      };`);
  });
  const { page } = visit;
  await visit.choosePhoto(face);
  await page.waitForSelector("#make:enabled");
  await page.evaluate("void (hold = new Promise((resolve) => globalThis.letGo = resolve))");
  await visit.choosePhoto(face);
  await page.waitForSelector("#make:disabled");
  await page.evaluate("letGo()");
  await page.waitForSelector("#make:enabled");
  deepEqual(visit.errors, []);
});

test("text is dragged into the prompt", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  await page.evaluate(`getSelection().selectAllChildren(document.querySelector("#empty strong"))`);
  const middle = async (selector: string) => {
    const { x, y, width, height } = (await (await page.$(selector))!.boundingBox())!;
    return [x + width / 2, y + height / 2] as const;
  };
  await page.mouse.move(...await middle("#empty strong"));
  await page.mouse.down();
  await page.mouse.move(...await middle("#options-title"), { steps: 5 });
  await page.mouse.move(...await middle("#prompt"), { steps: 10 });
  await page.mouse.up();
  await page.waitForFunction(`/Your portraits appear here/.test(document.querySelector("#prompt").value)`);
  equal(await page.$(".drop.over"), null);
  deepEqual(visit.errors, []);
});
