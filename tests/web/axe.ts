/** What axe-core says of the page. */

import { ok } from "node:assert/strict";
import axe from "axe-core";
import type { Visit } from "./browser.ts";

/** What axe-core finds, light and dark, in short. */
export async function violations({ page }: Visit): Promise<string[]> {
  const found: string[] = [];
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    await page.evaluate(axe.source);
    const result = await page.evaluate("axe.run(document)") as axe.AxeResults;
    ok(result.passes.length > 15, "axe looked at the page");
    for (const { id, nodes } of result.violations) {
      found.push(...nodes.map(({ html }) => `${scheme} ${id}: ${html.slice(0, 160)}`));
    }
  }
  await page.emulateMediaFeatures([]);
  return found;
}
