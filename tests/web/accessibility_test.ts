/** WCAG 2.2 where axe cannot look: focus that is kept and seen, and a narrow screen. */

import { deepEqual, equal } from "node:assert/strict";
import { answerInstead } from "./answers.ts";
import { violations } from "./axe.ts";
import { face, openStage, type Visit, webTest as test } from "./browser.ts";

const stage = await openStage();

/** The id of what has the focus; what has none is told by its text. */
function focused({ page }: Visit): Promise<string> {
  return page.evaluate(
    "document.activeElement.id || document.activeElement.textContent.trim().slice(0, 40)",
  ) as Promise<string>;
}

/** Presses a button that has the focus, as somebody with a keyboard does. */
async function pressWithKeyboard({ page }: Visit, selector: string): Promise<void> {
  await page.waitForSelector(selector);
  await page.focus(selector);
  await page.keyboard.press("Enter");
}

for (const [width, height] of [[1280, 720], [375, 667], [320, 568], [640, 360]] as const) {
  test(`the focus is never hidden at ${width} x ${height} (2.4.11)`, async () => {
    await using visit = await stage.visit("desktop");
    const { page } = visit;
    await page.setViewport({ width, height });
    await visit.choosePhoto(face);
    await page.waitForSelector("#make:enabled");
    await visit.waitForText("#price", /credits/);
    const hidden: string[] = [];
    let reached = 0;
    for (const direction of ["forward", "backward"]) {
      if (direction === "backward") await page.keyboard.down("Shift");
      for (let press = 0; press < 45; press++) {
        await page.keyboard.press("Tab");
        const found = await page.evaluate(`(() => {
          const element = document.activeElement;
          if (element === document.body) return "";
          const { left, right, top, bottom } = element.getBoundingClientRect();
          const shares = [0.1, 0.5, 0.9];
          const seen = shares.flatMap((x) => shares.map((y) => [x, y])).some(([x, y]) => {
            const at = document.elementFromPoint(left + x * (right - left), top + y * (bottom - top));
            return at !== null && (element.contains(at) || at.contains(element) && !at.matches("body, html, main, form"));
          });
          return (seen ? "" : "hidden: ") + (element.id || element.name || element.textContent.trim());
        })()`) as string;
        if (found !== "") reached++;
        if (found.startsWith("hidden")) hidden.push(`${direction} ${found}`);
      }
    }
    await page.keyboard.up("Shift");
    deepEqual(hidden, []);
    equal(reached > 60, true, `${reached} places reached`);
  });
}

for (const [width, available] of [[320, 500], [320, 50_000], [320, 999_000], [360, 999_000]] as const) {
  test(`nothing is wider than ${width} pixels with ${available} credits (1.4.10)`, async () => {
    await using visit = await stage.visit("phone", async (page) => {
      await page.setViewport({ width, height: 640 });
      const account = { status: 200, body: JSON.stringify({ available }) };
      await answerInstead({ page }, [/\/account$/, Array.from({ length: 9 }, () => account)]);
    });
    await visit.waitForText("#balance", new RegExp(new Intl.NumberFormat("en").format(available)));
    equal(await visit.sidewaysScroll(), 0);
    deepEqual(await violations(visit), []);
  });
}

for (const size of ["phone", "desktop"] as const) {
  test(`${size}: the focus goes on where a button goes away (2.4.3)`, async () => {
    await using visit = await stage.visit(size);
    const { page } = visit;
    page.on("dialog", (dialog) => void dialog.accept());
    await visit.choosePhoto(face);
    await visit.slide("#count", 8);
    await pressWithKeyboard(visit, "#make:enabled");
    await visit.waitForText("#running-text", /Painting/);
    equal(await focused(visit), "cancel");
    await page.keyboard.press("Enter");
    equal(await focused(visit), "stage");
    await visit.waitForText("#said", /^Canceled/);
    await page.waitForSelector("#make:enabled");
    equal(await focused(visit), "stage");

    await visit.slide("#count", 1);
    await pressWithKeyboard(visit, "#make:enabled");
    await visit.waitForPortraits(1);
    equal(await focused(visit), "stage");

    await pressWithKeyboard(visit, "#history-list button");
    await pressWithKeyboard(visit, '[aria-label="Remove these portraits from this browser"]');
    await page.waitForFunction('document.querySelectorAll("#tiles li").length === 0');
    equal(await focused(visit), "stage");

    await pressWithKeyboard(visit, "#make:enabled");
    await visit.waitForPortraits(1);
    await page.waitForSelector("#history-list button");
    await pressWithKeyboard(visit, "#history-clear");
    await page.waitForSelector("#history", { hidden: true });
    equal(await focused(visit), "stage");
    deepEqual(visit.errors, []);
  });
}
