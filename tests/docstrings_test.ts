/** The rule of the house that no linter knows: whatever a file exports says what it is. */

import { deepEqual, ok } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("..", import.meta.url));
const rooms = [
  "bench",
  "billing",
  "config",
  "demo",
  "doctor",
  "jobs",
  "models",
  "openapi",
  "pipeline",
  "routes",
  "sdk",
  "store",
  "telemetry",
];

/** Folders inside rooms that hold others' sources, or sources on others' terms. */
const foreign = ["sdk/.venv", "sdk/examples", "sdk/generated"];

/** The parts of `deno doc --json`, version 2, that are read here. */
interface Documentation {
  readonly nodes: Record<string, {
    readonly symbols: readonly {
      readonly name: string;
      readonly declarations: readonly {
        readonly declarationKind: string;
        readonly jsDoc?: { readonly doc?: string };
      }[];
    }[];
  }>;
}

function* sourcesIn(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(join(repository, folder))) {
    const path = join(folder, name);
    if (isDirectory && !foreign.includes(path)) yield* sourcesIn(path);
    else if (name.endsWith(".ts")) yield path;
  }
}

Deno.test("every exported symbol has a docstring", async () => {
  const sources = ["config.ts", "main.ts", "serve_jobs.ts", ...rooms.flatMap((room) => [...sourcesIn(room)])];
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--json", ...sources],
    cwd: repository,
    stderr: "null",
  }).output();
  const { nodes }: Documentation = JSON.parse(new TextDecoder().decode(stdout));
  const exported = Object.entries(nodes).flatMap(([file, { symbols }]) =>
    symbols.flatMap(({ name, declarations }) =>
      declarations
        .filter(({ declarationKind }) => declarationKind === "export")
        .map(({ jsDoc }) => ({ symbol: `${file.split("/").at(-1)} ${name}`, doc: jsDoc?.doc ?? "" }))
    )
  );
  ok(exported.length > 100, "deno doc found the sources");
  deepEqual(exported.filter(({ doc }) => doc.trim() === "").map(({ symbol }) => symbol), []);
});
