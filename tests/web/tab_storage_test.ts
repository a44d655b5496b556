/** The page in a browser that keeps nothing for it. */

import { deepEqual, equal } from "node:assert/strict";
import { face, openStage, type Visit, webTest as test } from "./browser.ts";

const stage = await openStage();

/** Makes a portrait, and then another from it. */
async function makePortraits(visit: Visit): Promise<void> {
  await visit.choosePhoto(face);
  await visit.slide("#count", 1);
  await visit.make();
  await visit.waitForPortraits(1);
  await visit.page.locator('[aria-label^="Again with seed"]').click();
  await visit.make();
  await visit.waitForPortraits(1);
  await visit.waitForText("#balance", /credits/);
  equal(await visit.page.$("#problem:not([hidden])"), null);
  deepEqual(visit.errors, []);
}

test("with blocked site data the page makes portraits", async () => {
  // what Chromium does where the person blocks a site's data
  await using visit = await stage.visit("desktop", async (page) => {
    await page.evaluateOnNewDocument(`
      const denied = () => { throw new DOMException("Access is denied for this document.", "SecurityError"); };
      for (const name of ["sessionStorage", "localStorage", "indexedDB"]) {
        Object.defineProperty(globalThis, name, { get: denied });
      }`);
  });
  await makePortraits(visit);
});

test("with a full storage the page makes portraits", async () => {
  await using visit = await stage.visit("desktop", async (page) => {
    await page.evaluateOnNewDocument(`
      Storage.prototype.setItem = () => { throw new DOMException("The quota has been exceeded.", "QuotaExceededError"); };
    `);
  });
  await makePortraits(visit);
});
