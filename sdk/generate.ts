/**
 * `deno task sdk [LANGUAGE…]`: generates clients of the API from `openapi.json` into `sdk/generated/`, all of them when
 * none is named. Exit code 2 when a name is wrong.
 */

import { generators } from "./generators.ts";

const known = Object.keys(generators);
const wanted = Deno.args.length > 0 ? Deno.args : known;
const unknown = wanted.filter((language) => !known.includes(language));
if (unknown.length > 0) {
  console.error(`There is no generator for ${unknown.join(", ")}; there are ${known.join(", ")}.`);
  Deno.exit(2);
}
for (const language of wanted) {
  const started = performance.now();
  await generators[language]!();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`sdk/generated/${language}  ${seconds} s`);
}
