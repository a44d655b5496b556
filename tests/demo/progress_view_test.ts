import { equal, match } from "node:assert/strict";
import { createProgressView } from "../../demo/progress_view.ts";
import type { GenerateProgress } from "../../pipeline/protocol.ts";

const generation: readonly GenerateProgress[] = [
  { stage: "references", step: 0, steps: 0 },
  { stage: "prompt", step: 0, steps: 0 },
  ...Array.from({ length: 9 }, (_, step) => ({ stage: "denoise" as const, step, steps: 8 })),
  { stage: "decode", step: 8, steps: 8 },
  { stage: "encode", step: 8, steps: 8 },
];

function follow(isTerminal: boolean): string[] {
  const written: string[] = [];
  const view = createProgressView((text) => written.push(text), isTerminal);
  for (const progress of generation) view.show(progress);
  view.end();
  return written;
}

Deno.test("a terminal shows one bar that fills, and nothing of it in the end", () => {
  const drawn = follow(true);
  equal(drawn.length, generation.length + 1);
  const filled = drawn.slice(0, -1).map((text) => text.split("█").length - 1);
  equal(filled[0], 0);
  equal(filled[6], 15); // step 4 of 8
  equal(filled.at(-1), 30);
  for (const text of drawn) {
    equal(text.startsWith("\r\x1b[K"), true);
    equal(text.includes("\n"), false);
  }
  match(drawn[6]!, /denoise 4\/8$/);
  equal(drawn.at(-1), "\r\x1b[K");
});

Deno.test("a log gets a plain line a stage and a quarter", () => {
  const text = follow(false).join("");
  equal(text.includes("\x1b") || text.includes("\r"), false);
  equal(
    text,
    "  references\n  prompt\n  denoise 0/8\n  denoise 2/8\n  denoise 4/8\n  denoise 6/8\n  denoise 8/8\n" +
      "  decode\n  encode\n",
  );
});
