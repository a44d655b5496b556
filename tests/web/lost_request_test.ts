/** Requests that the service has not answered: canceled, sent again after a reload, given up. */

import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";
import { type Answer, answerInstead, pathOf, problem } from "./answers.ts";
import { violations } from "./axe.ts";
import { face, openStage, type Visit, webTest as test } from "./browser.ts";

const stage = await openStage();

/** So many connections break that the page gives up first. */
const unreachable = (): Answer[] => Array.from({ length: 100 }, () => "lost");

/** Asks for one portrait. */
async function makeOne(visit: Visit): Promise<void> {
  await visit.choosePhoto(face);
  await visit.slide("#count", 1);
  await visit.make();
}

/** Remembers what the page says from now on, in order. */
async function listen({ page }: Visit): Promise<() => Promise<string[]>> {
  await page.evaluate(`
    globalThis.heard = [];
    for (const id of ["running-text", "said"]) {
      new MutationObserver((records) => {
        for (const { addedNodes } of records) for (const node of addedNodes) heard.push(node.textContent);
      }).observe(document.getElementById(id), { childList: true });
    }`);
  return () => page.evaluate("globalThis.heard") as Promise<string[]>;
}

/** The Idempotency-Keys of all requests from now on. */
function collectKeys({ page }: Visit): string[] {
  const keys: string[] = [];
  page.on("request", (request) => {
    if (pathOf(request) === "/v1/generations") keys.push(request.headers()["idempotency-key"] ?? "none");
  });
  return keys;
}

/** Does something with the requests that this browser keeps, and gives the result. */
function withKeptRequests({ page }: Visit, work: string): Promise<unknown> {
  return page.evaluate(`new Promise((resolve, reject) => {
    const opened = indexedDB.open("idadapter.requests", 1);
    opened.onupgradeneeded = () => opened.result.createObjectStore("requests", { keyPath: "key" });
    opened.onerror = () => reject(opened.error);
    opened.onsuccess = () => {
      const store = opened.result.transaction("requests", "readwrite").objectStore("requests");
      const request = (${work})(store);
      store.transaction.oncomplete = () => (opened.result.close(), resolve(request.result));
    };
  })`);
}

/** Waits until this browser keeps no request any more. */
async function expectNoKeptRequest(visit: Visit): Promise<void> {
  let count: unknown;
  for (let attempt = 0; attempt < 50 && count !== 0; attempt++) {
    if (attempt > 0) await new Promise((resolve) => setTimeout(resolve, 100));
    count = await withKeptRequests(visit, "(store) => store.count()");
  }
  equal(count, 0);
  equal(await visit.watched(), null);
}

test("when the connection is back the page says so", async () => {
  await using visit = await stage.visit("desktop");
  const heard = await listen(visit);
  await answerInstead(visit, [/\/generations$/, ["lost"]]);
  await makeOne(visit);
  await visit.waitForPortraits(1);
  const all = await heard();
  const lost = all.findIndex((text) => text.startsWith("Connection lost. Your request"));
  deepEqual(all.slice(lost, lost + 4), [
    "Connection lost. Your request is sent again…",
    "Connection lost.",
    "Waiting for a place…",
    "The connection is back.",
  ]);
  await expectNoKeptRequest(visit);
  deepEqual(visit.errors, []);
});

test("canceled while the service cannot be reached, the page is free again after a few seconds", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const before = await visit.credits();
  const posts = unreachable();
  await answerInstead(visit, [/\/generations$/, posts]);
  await makeOne(visit);
  await visit.waitForText("#running-text", /Connection lost/);
  const heard = await listen(visit);
  await page.click("#cancel");
  await visit.waitForText("#problem", /Canceled.*may be charged/);
  deepEqual((await heard()).filter((text) => /lost/.test(text)), [], "it says that it cancels, all the time");
  await page.waitForSelector("#make:enabled");
  equal((await page.$$("#tiles li")).length, 0);
  deepEqual(await violations(visit), []);
  await expectNoKeptRequest(visit);
  const left = posts.length;
  notEqual(left, 0);
  posts.length = 0;
  await visit.make();
  await visit.waitForPortraits(1);
  ok(await visit.credits() < before);
  deepEqual(visit.errors, []);
});

test("canceled before it was accepted, it is canceled as soon as it is", async () => {
  await using visit = await stage.visit("desktop");
  const before = await visit.credits();
  const posts = unreachable();
  await answerInstead(visit, [/\/generations$/, posts]);
  await visit.choosePhoto(face);
  await visit.slide("#count", 8);
  await visit.make();
  await visit.waitForText("#running-text", /Connection lost/);
  await visit.page.click("#cancel");
  posts.length = 0;
  await visit.waitForText("#said", /^Canceled\. Nothing was charged\./);
  await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(before)));
  await expectNoKeptRequest(visit);
  deepEqual(visit.errors, []);
});

test("canceled while what was accepted is out of reach, it is canceled when the connection is back", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const before = await visit.credits();
  await visit.begin(8);
  await page.setOfflineMode(true);
  await visit.waitForText("#running-text", /Connection lost/);
  await page.click("#cancel");
  await visit.waitForText("#running-text", /^Canceling… The service cannot be reached/);
  await page.setOfflineMode(false);
  await visit.waitForText("#said", /^Canceled\. Nothing was charged\./);
  await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(before)));
  await expectNoKeptRequest(visit);
  deepEqual(visit.errors, []);
});

test("loaded again before the service's answer came, the same request is sent, and paid once", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const before = await visit.credits();
  const keys = collectKeys(visit);
  // the service has accepted it, and the page is not told
  const session = await page.createCDPSession();
  await session.send("Fetch.enable", {
    patterns: [{ urlPattern: "*/v1/generations", requestStage: "Response" }],
  });
  const { promise: accepted, resolve } = Promise.withResolvers<void>();
  session.on("Fetch.requestPaused", ({ requestId }) => {
    // the first answer is held back for ever
    if (keys.length === 1) resolve();
    else void session.send("Fetch.continueResponse", { requestId });
  });
  await visit.waitForText("#price", /^\d+ credits/);
  await visit.choosePhoto(face);
  const priced = page.waitForResponse((response) => response.url().endsWith("/price"));
  await visit.slide("#count", 1);
  const { price } = await (await priced).json();
  await visit.make();
  await accepted;
  ok(!(await visit.watched())?.includes("gen_"), "the page knows no id");
  await page.reload();
  await visit.waitForPortraits(1);
  equal(await visit.credits(), before - price);
  equal(keys.length, 2);
  match(keys[0]!, /^[0-9a-f-]{36}$/);
  equal(keys[0], keys[1]);
  await expectNoKeptRequest(visit);
  // its photo came back with it
  await page.locator('[aria-label^="Again with seed"]').click();
  await visit.waitForText("#check", /This photo will do/);
  deepEqual(visit.errors, []);
});

test("canceled and loaded again, it stays canceled", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const before = await visit.credits();
  const posts = unreachable();
  await answerInstead(visit, [/\/generations$/, posts]);
  await makeOne(visit);
  await visit.waitForText("#running-text", /Connection lost/);
  await page.click("#cancel");
  // left before anything gets through
  await page.goto("about:blank");
  posts.length = 0;
  await page.goto(stage.service.address);
  await visit.waitForText("#said", /^Canceled\. Nothing was charged\./);
  await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(before)));
  await expectNoKeptRequest(visit);
});

test("a request whose key the service may have forgotten is not sent again", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const posts = unreachable();
  await answerInstead(visit, [/\/generations$/, posts]);
  await makeOne(visit);
  await visit.waitForText("#running-text", /Connection lost/);
  const yesterday = Date.now() - 24 * 3_600_000;
  await withKeptRequests(
    visit,
    `(store) => {
      const all = store.getAll();
      all.onsuccess = () => {
        for (const kept of all.result) store.put({ ...kept, time: ${yesterday} });
      };
      return all;
    }`,
  );
  const active = { ...JSON.parse((await visit.watched())!), time: yesterday };
  await page.evaluate((text) => sessionStorage.setItem("idadapter.active", text), JSON.stringify(active));
  // left before anything is sent again
  await page.goto("about:blank");
  const keys = collectKeys(visit);
  posts.length = 0;
  await page.goto(stage.service.address);
  await visit.waitForText("#problem", /The last request is lost.*may be charged/);
  deepEqual(keys, []);
  // and stays when the page has reconnected
  const models = page.waitForResponse((response) => pathOf(response.request()) === "/v1/models");
  await page.evaluate('dispatchEvent(new Event("online"))');
  await (await models).json();
  await page.waitForNetworkIdle();
  match(await visit.text("#problem"), /may be charged/);
  ok(await page.$("#problem:not([hidden])"));
  await expectNoKeptRequest(visit);
});

test("a refused request is forgotten, with its photo", async () => {
  await using visit = await stage.visit("desktop");
  await answerInstead(visit, [/\/generations$/, [problem("queue_full"), "lost", problem("queue_full")]]);
  await makeOne(visit);
  await visit.waitForText("#problem", /The queue is full/);
  await expectNoKeptRequest(visit);
  await visit.make();
  await visit.waitForText("#running-text", /Connection lost/);
  await visit.waitForText("#problem", /The queue is full/);
  await visit.page.waitForSelector("#make:enabled");
  await expectNoKeptRequest(visit);
});

test("what may have arrived is asked for again where an instance could not say", async () => {
  await using visit = await stage.visit("desktop");
  const keys = collectKeys(visit);
  const proxy = { status: 504, body: JSON.stringify({ code: "GATEWAY_TIMEOUT", message: "too late" }) };
  await answerInstead(visit, [/\/generations$/, [proxy, problem("worker_failed")]]);
  await makeOne(visit);
  await visit.waitForText("#problem", /./);
  const unanswered = await visit.watched();
  match(unanswered!, new RegExp(keys[0]!));
  await visit.make();
  await visit.page.waitForFunction('document.querySelectorAll("#history-list button").length === 2');
  equal(keys[0], keys[2]);
  await expectNoKeptRequest(visit);
  deepEqual(visit.errors, []);
});

test("what may have arrived is asked for again with another token", async () => {
  await using visit = await stage.visit("desktop");
  const { page } = visit;
  const keys = collectKeys(visit);
  // a refused token is renewed once, and the new one refused as well
  const refused = problem("token_key_unknown");
  await answerInstead(visit, [/\/generations$/, ["lost", refused, refused]]);
  await makeOne(visit);
  await page.waitForSelector("#token-dialog[open]");
  await page.type("#token", await signDevelopmentToken(stage.service.jwt));
  await page.keyboard.press("Enter");
  await visit.waitForPortraits(1);
  deepEqual([...new Set(keys)].length, 1);
  await expectNoKeptRequest(visit);
  deepEqual(visit.errors, []);
});
