import { deepEqual, equal, ok } from "node:assert/strict";
import { createLogger, errorFields } from "../../routes/logger.ts";

Deno.test("a line is one JSON object; lines below the level are dropped", () => {
  const lines: string[] = [];
  const log = createLogger({ level: "warn", write: (line) => lines.push(line), now: () => new Date(0) });
  log("debug", "a");
  log("info", "b");
  log("warn", "c", { detail: 'two\nlines and a "quote"', missing: undefined });
  log("error", "d");
  equal(lines.length, 2);
  ok(!lines[0]?.includes("\n"));
  deepEqual(JSON.parse(lines[0] ?? ""), {
    time: "1970-01-01T00:00:00.000Z",
    level: "warn",
    message: "c",
    detail: 'two\nlines and a "quote"',
  });
  equal(JSON.parse(lines[1] ?? "").message, "d");
});

Deno.test("an error is logged by its class and place, never by its message", () => {
  const fields = errorFields(new RangeError("holds a prompt\nover two lines"));
  equal(fields.error, "RangeError");
  ok((fields.stack as string[])[0]?.startsWith("at "));
  ok(!JSON.stringify(fields).includes("prompt"));
  deepEqual(errorFields("just text"), { error: "string" });
});
