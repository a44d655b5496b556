/** Portraits that are being made, or were, and that the page could not ask for: it takes them up again, or lets them go. */

import { deepEqual, equal } from "node:assert/strict";
import { type Answer, answerInstead, problem } from "./answers.ts";
import { violations } from "./axe.ts";
import { openStage, type Visit, webTest as test } from "./browser.ts";

const stage = await openStage();

/** Has so many portraits begun, and refuses to tell of them. @returns gives in */
async function beginOutOfReach(visit: Visit, count: number): Promise<() => void> {
  const { page } = visit;
  await visit.begin(count);
  const watched = JSON.parse((await visit.watched())!).id;
  await page.setOfflineMode(true);
  await visit.waitForText("#running-text", /Connection lost/);
  const refusals: Answer[] = Array.from({ length: 50 }, () => problem("scope_missing"));
  await answerInstead(visit, [/\/events$/, refusals]);
  await page.setOfflineMode(false);
  await visit.waitForText("#problem", /scope/);
  await page.waitForNetworkIdle();
  equal(JSON.parse((await visit.watched())!).id, watched);
  return () => void refusals.splice(0);
}

test("portraits that could not be asked for come before the next ones", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const reach = await beginOutOfReach(visit, 1);
  const unfinished = await visit.watched();
  // not even now can they be asked for, and nothing new is begun
  await visit.make();
  await page.waitForSelector("#make:enabled");
  equal(await visit.watched(), unfinished);
  equal((await page.$$("#history-list button")).length, 0);
  reach();
  await visit.make();
  await page.waitForFunction('document.querySelectorAll("#history-list button").length === 2');
  equal(await visit.watched(), null);
  deepEqual(visit.errors, []);
});

test("canceled where they are taken up before the next ones, nothing new is begun", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const before = await visit.credits();
  const reach = await beginOutOfReach(visit, 8);
  reach();
  await visit.make();
  await page.click("#cancel");
  await visit.waitForText("#said", /^Canceled\. Nothing was charged\./);
  await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(before)));
  await page.waitForSelector("#make:enabled");
  equal(await visit.watched(), null);
  equal((await page.$$("#tiles li")).length, 0);
  deepEqual(visit.errors, []);
});

test("portraits that cannot be asked for can be given up", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const reach = await beginOutOfReach(visit, 1);
  deepEqual(await violations(visit), []);
  await page.click("#problem button");
  await page.waitForSelector("#problem", { hidden: true });
  equal(await page.evaluate("document.activeElement.id"), "stage");
  equal(await visit.watched(), null);
  reach();
  await visit.make();
  await visit.waitForPortraits(1);
  equal((await page.$$("#history-list button")).length, 1);
  deepEqual(visit.errors, []);
});
