/** A Chromium for the tests that open a page. */

import { existsSync } from "node:fs";

const names = ["chromium", "chromium-browser", "google-chrome"];
const places = [
  Deno.env.get("CHROMIUM"),
  ...(Deno.env.get("PATH") ?? "").split(":").flatMap((folder) => names.map((name) => `${folder}/${name}`)),
];

/** Where it is; undefined where there is none, and its tests are ignored. In CI (`REQUIRE_CHROMIUM`) there must be one. */
export const chromium: string | undefined = places.find((path) => path !== undefined && existsSync(path));
if (chromium === undefined && Deno.env.get("REQUIRE_CHROMIUM") !== undefined) {
  throw new Error("Chromium is missing: apt-get install chromium, or name one in CHROMIUM.");
}

/** What to add to the name of a test that needs it. */
export const withoutChromium: string = chromium === undefined ? " (ignored: there is no Chromium here)" : "";
