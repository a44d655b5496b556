/** Dependencies point one way: docs/architecture.md's table of rooms, held to what the files import. */

import { deepEqual, ok } from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("..", import.meta.url));

/** What a room may import beside itself; `type:` marks types alone, which leave nothing behind at run time. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  models: [],
  pipeline: ["models/"],
  openapi: ["type:pipeline/protocol.ts"],
  store: [],
  billing: ["store/"],
  jobs: ["billing/", "pipeline/", "store/"],
  telemetry: ["jobs/generation.ts", "pipeline/"],
  config: [],
  routes: ["config.ts", "openapi/", "billing/", "jobs/", "pipeline/", "models/", "store/"],
  deploy: ["bench/shared/text_line_stream.ts", "config.ts", "routes/tokens/", "store/"],
  demo: ["config.ts", "openapi/", "routes/tokens/", "type:pipeline/protocol.ts"],
  sdk: [],
  doctor: ["config.ts", "models/", "pipeline/", "store/", "routes/tokens/"],
  bench: ["config.ts", "demo/service_process.ts", "routes/tokens/", "store/", "pipeline/", "models/"],
};

/** Folders inside rooms that hold others' sources, or sources on others' terms. */
const foreign = ["sdk/.venv", "sdk/examples", "sdk/generated"];

/** Paths of a room's sources, from the repository's root. */
function* sourcesIn(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(join(repository, folder))) {
    const path = join(folder, name);
    if (isDirectory && !foreign.includes(path)) yield* sourcesIn(path);
    else if (name.endsWith(".ts")) yield path;
  }
}

/** What a source imports from other rooms, with `type:` where it imports types alone. */
function* importsOf(source: string): Generator<string> {
  const text = Deno.readTextFileSync(join(repository, source));
  for (
    const [, keyword, names = "", specifier = ""] of text.matchAll(
      /^(import|export)\b([^;"]*?)from "(\.[^"]+)"/gm,
    )
  ) {
    const target = relative(repository, join(repository, dirname(source), specifier));
    const types = /^\s*type\b/.test(names) ||
      (keyword === "import" && /^\s*\{(\s*type \w+,?)+\s*\}/.test(names));
    if (target.split("/")[0] !== source.split("/")[0]) yield `${types ? "type:" : ""}${target}`;
  }
}

function mayImport(room: string, imported: string): boolean {
  const target = imported.replace(/^type:/, "");
  return allowed[room]!.some((rule) => rule === imported || target.startsWith(rule));
}

for (const room of Object.keys(allowed)) {
  Deno.test(`${room} imports only what stands below it`, () => {
    const sources = [...sourcesIn(room)];
    ok(sources.length > 0);
    const forbidden = sources.flatMap((source) =>
      [...importsOf(source)].filter((imported) => !mayImport(room, imported)).map((imported) =>
        `${source}: ${imported}`
      )
    );
    deepEqual(forbidden, []);
  });
}

Deno.test("imports are found, and those of types told apart", () => {
  ok([...importsOf("routes/faces.ts")].includes("openapi/face.ts"));
  ok([...importsOf("openapi/face.ts")].includes("type:pipeline/protocol.ts"));
});

Deno.test("below main.ts only a command of its own reads the environment", () => {
  const sources = ["models", "pipeline", "store", "billing", "jobs", "telemetry", "openapi", "routes"]
    .flatMap((
      room,
    ) => [...sourcesIn(room)]);
  const readers = sources.filter((source) =>
    Deno.readTextFileSync(join(repository, source)).includes("Deno.env")
  );
  deepEqual(readers, ["routes/tokens/print_token.ts"]);
});
