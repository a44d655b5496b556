import { deepEqual, ok } from "node:assert/strict";
import { GenerationRequestSchema } from "../../openapi/generation.ts";
import { problemCatalogue, problemCodes } from "../../openapi/problems.ts";
import { createProblem } from "../../openapi/problem.ts";

const guide = await Deno.readTextFile(new URL("../../docs/api.md", import.meta.url));

Deno.test("docs/api.md lists every problem code once, under its status", () => {
  const rows = [...guide.matchAll(/^\| (\d{3}(?:, \d{3})?)[^|]*\| (`.*`) \|$/gm)];
  const listed = rows.flatMap(([, statuses = "", codes = ""]) =>
    [...codes.matchAll(/`(\w+)`/g)].map(([, code]) => ({
      code: code as keyof typeof problemCatalogue,
      statuses,
    }))
  );
  deepEqual(listed.map(({ code }) => code).sort(), [...problemCodes].sort());
  for (const { code, statuses } of listed) {
    ok(statuses.includes(String(problemCatalogue[code]?.status)), `${code} is not a ${statuses}`);
  }
});

Deno.test("docs/api.md has a row for every field of a generation", () => {
  for (const field of Object.keys(GenerationRequestSchema.shape)) {
    ok(guide.includes(`| \`${field}\` |`), field);
  }
});

Deno.test("the problem docs/api.md shows is the one the service sends", () => {
  const shown = JSON.parse(/```json\n(\{\n {2}"type": "urn[\s\S]*?\n\})\n```/.exec(guide)?.[1] ?? "null");
  deepEqual(
    shown,
    createProblem("out_of_range", {
      detail: shown.detail,
      requestId: shown.request_id,
      errors: shown.errors,
    }),
  );
});
