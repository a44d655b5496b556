/** The page asks again by itself where that can help, and goes on without what its token may not ask. */

import { deepEqual, equal } from "node:assert/strict";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";
import { problemCatalogue } from "../../openapi/problems.ts";
import { type Answer, answerInstead, badGateway, problem } from "./answers.ts";
import { violations } from "./axe.ts";
import { face, openStage, webTest as test } from "./browser.ts";

const stage = await openStage();

test("a photo that could not be looked at is looked at again", async () => {
  await using visit = await stage.visit("desktop");
  const checks: Answer[] = [problem("rate_limit_exceeded", 2)];
  await answerInstead(visit, [/\/faces$/, checks]);
  await visit.choosePhoto(face);
  await visit.waitForText("#check", /The service is busy/);
  await visit.waitForText("#check", /This photo will do/);
  checks.push("lost", problem("not_ready"), problem("internal_error"), "lost");
  await visit.choosePhoto(face);
  await visit.waitForText("#check", /as soon as the service can be reached/);
  await visit.waitForText("#check", /This photo will do/);
  deepEqual(checks, []);
  await visit.page.waitForSelector("#make:enabled");
  equal(await visit.page.$("#problem:not([hidden])"), null);
  deepEqual(visit.errors, []);
});

test("a photo that the service fails at is not looked at for ever", async () => {
  await using visit = await stage.visit("desktop");
  const checks: Answer[] = Array.from({ length: 5 }, () => problem("internal_error"));
  await answerInstead(visit, [/\/faces$/, checks]);
  await visit.choosePhoto(face);
  await visit.waitForText("#problem", new RegExp(problemCatalogue.internal_error.title));
  equal(checks.length, 2);
  deepEqual(visit.errors, []);
});

test("opened while the service starts, the page waits for it and says so", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const models: Answer[] = [problem("not_ready", 4), badGateway, "lost"];
  await answerInstead(visit, [/\/models$/, models]);
  await page.reload();
  await visit.waitForText("#problem", /still loading.*asks again by itself/);
  deepEqual(await violations(visit), []);
  await page.waitForSelector("#nouns input");
  deepEqual(models, []);
  await page.waitForSelector("#problem", { hidden: true });
  await page.waitForSelector("#empty", { visible: true });
  await visit.waitForText("#balance", /credits/);
  await visit.waitForText("#price", /credits/);
  deepEqual(visit.errors, []);
});

test("balance and price are asked for again", async () => {
  await using visit = await stage.visit("desktop");
  const answers: Answer[] = [problem("rate_limit_exceeded", 1), "lost"];
  const prices = [...answers];
  await answerInstead(visit, [/\/account$/, answers], [/\/price$/, prices]);
  await visit.page.reload();
  await visit.waitForText("#balance", /credits/);
  await visit.waitForText("#price", /credits/);
  deepEqual([answers, prices], [[], []]);
});

test("a token without the balance makes portraits, also over a reload", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const scope = "generations:write generations:read faces:read models:read";
  const token = await signDevelopmentToken(stage.service.jwt, { scope });
  await page.evaluate((token) => sessionStorage.setItem("idadapter.token", token), token);
  await page.reload();
  await page.waitForSelector("#nouns input");
  await visit.begin(2);
  await page.reload();
  await visit.waitForPortraits(2);
  equal(await visit.watched(), null);
  equal(await visit.text("#balance"), "");
  equal(await page.$("#problem:not([hidden])"), null);
  deepEqual(visit.errors, []);
});
