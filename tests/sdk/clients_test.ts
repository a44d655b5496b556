/** The generated clients, and the examples, against the real service with its real model. `deno task sdk` comes first. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import sharp from "sharp";
import { GenerationSchema } from "../../openapi/generation.ts";
import { createDocument } from "../../openapi/document.ts";
import { expectPortraitOverCutConnections, photo, repository, run } from "./cut_connections.ts";
import { startLiveService } from "./live_service.ts";
import { ignored, javaLibraries, kotlinCompiler, kotlinLibraries, named } from "./toolchains.ts";

/** These JVMs live for seconds: the optimising compiler and parallel collectors cost more than they give. */
const shortLived = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

function sourcesIn(folder: string, extension: string): readonly string[] {
  return [...Deno.readDirSync(join(repository, folder))].flatMap(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? sourcesIn(path, extension) : name.endsWith(extension) ? [path] : [];
  });
}

async function expectPicture(file: Uint8Array): Promise<void> {
  const { format, width, height } = await sharp(file).metadata();
  deepEqual([format, width, height], ["png", 128, 128]);
}

Deno.test("clients", async (t) => {
  await using service = await startLiveService();
  const folder = await Deno.makeTempDir();

  await t.step({
    name: named("TypeScript compiles strictly", ignored.typescript),
    ignore: ignored.typescript,
    fn: async () => {
      const args = ["run", "--allow-all", "npm:typescript@5.9.3/tsc", "--project", "sdk/examples/typescript"];
      equal(await run({ command: Deno.execPath(), args }), "");
    },
  });
  await t.step("TypeScript is formatted and has no lint", async () => {
    // deno.json leaves the examples out, since their imports are there only after `deno task sdk`
    const example = ["--no-config", "sdk/examples/typescript"];
    await run({ command: Deno.execPath(), args: ["fmt", "--check", "--line-width", "110", ...example] });
    await run({ command: Deno.execPath(), args: ["lint", ...example] });
  });
  await t.step({
    name: named("TypeScript makes a portrait over cut connections", ignored.typescript),
    ignore: ignored.typescript,
    fn: () =>
      expectPortraitOverCutConnections(service, "typescript", {
        command: Deno.execPath(),
        args: ["run", "--allow-all", "--no-check", "sdk/examples/typescript/main.ts"],
      }),
  });

  await t.step({
    name: named("Python's types fit", ignored.python),
    ignore: ignored.python,
    fn: async () => {
      const args = ["--config-file", "sdk/mypy.ini", "sdk/generated/python", "sdk/examples/python"];
      match(await run({ command: "sdk/.venv/bin/mypy", args }), /no issues found in \d{3} source files/);
      const style = ["--isolated", "--line-length", "110", "sdk/examples/python"];
      await run({ command: "sdk/.venv/bin/ruff", args: ["check", "--select", "E,F,I,UP,B,SIM", ...style] });
      await run({ command: "sdk/.venv/bin/ruff", args: ["format", "--check", ...style] });
    },
  });
  await t.step({
    name: named("Python makes a portrait over cut connections", ignored.python),
    ignore: ignored.python,
    fn: () =>
      expectPortraitOverCutConnections(service, "python", {
        command: "sdk/.venv/bin/python",
        args: ["sdk/examples/python/main.py"],
        env: { PYTHONPATH: "sdk/generated/python" },
      }),
  });

  await t.step({
    name: named("Java compiles and makes a portrait", ignored.java),
    ignore: ignored.java,
    fn: async () => {
      const classes = join(folder, "java");
      const portrait = join(folder, "java.png");
      await run({
        command: "javac",
        args: [
          ...shortLived.map((option) => `-J${option}`),
          "-nowarn",
          "-proc:none",
          "-classpath",
          javaLibraries.join(":"),
          "-d",
          classes,
          ...sourcesIn("sdk/generated/java/src/main", ".java"),
          "tests/sdk/MakePortrait.java",
        ],
      });
      const said = await run({
        command: "java",
        args: [...shortLived, "-cp", [classes, ...javaLibraries].join(":"), "MakePortrait", photo, portrait],
        env: { IDADAPTER_URL: service.address, IDADAPTER_TOKEN: await service.tokenFor("java") },
      });
      match(
        said,
        /charged once\n.*finished generation\nrefused\nwith a problem that says why\nby a code that may be newer than the client\n$/s,
      );
      await expectPicture(await Deno.readFile(portrait));
    },
  });

  await t.step({
    name: named("Kotlin compiles and makes a portrait over cut connections", ignored.kotlin),
    ignore: ignored.kotlin,
    fn: async () => {
      const classes = join(folder, "kotlin");
      const compiler = ["-cp", kotlinCompiler, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"];
      await run({
        command: "java",
        args: [
          ...shortLived,
          ...compiler,
          "-no-stdlib",
          "-no-reflect",
          "-Werror",
          "-classpath",
          kotlinLibraries.join(":"),
          "-d",
          classes,
          // ScalePhoto.kt needs Android
          "sdk/examples/kotlin/Portraits.kt",
          "sdk/examples/kotlin/Main.kt",
        ],
      });
      await expectPortraitOverCutConnections(service, "kotlin", {
        command: "java",
        args: [...shortLived, "-cp", [classes, ...kotlinLibraries].join(":"), "idadapter.example.MainKt"],
      });
    },
  });

  await t.step({
    name: named("Swift and Android's Kotlin keep to the grammar", ignored.swiftSyntax),
    ignore: ignored.swiftSyntax,
    fn: async () => {
      const generated = "sdk/generated/swift/Sources/IDAdapterClient";
      // Infrastructure is the same for everyone's document, and has a `()` that the grammar does not know
      const sources = [
        `${generated}/APIs`,
        `${generated}/Models`,
        "sdk/examples/swift",
        "sdk/examples/kotlin",
      ];
      const args = ["tests/sdk/find_syntax_errors.py", ...sources];
      match(await run({ command: "sdk/.venv/bin/python", args }), /^\d\d files\n$/);
    },
  });
  await t.step({
    name: named("Swift has a method for each operation and a type for each schema", ignored.swiftSyntax),
    ignore: ignored.swiftSyntax,
    fn: async () => {
      const generated = "sdk/generated/swift/Sources/IDAdapterClient";
      const read = (files: readonly string[]) =>
        Promise.all(files.map((file) => Deno.readTextFile(join(repository, file))));
      const apis = (await read(sourcesIn(`${generated}/APIs`, ".swift"))).join("\n");
      const models = (await read(sourcesIn(`${generated}/Models`, ".swift"))).join("\n");
      const { paths, components } = createDocument();
      const operations = Object.values(paths ?? {}).flatMap((path) => Object.values(path))
        .map(({ operationId }) => operationId);
      ok(operations.length > 15);
      deepEqual(operations.filter((name) => !apis.includes(`open class func ${name}(`)), []);
      // forms come apart into parameters
      const schemas = Object.keys(components?.schemas ?? {}).filter((name) => !name.endsWith("Form"));
      deepEqual(schemas.filter((name) => !new RegExp(`public (struct|enum) ${name}\\b`).test(models)), []);
    },
  });
  await t.step({
    name: named("Swift compiles and makes a portrait over cut connections", ignored.swift),
    ignore: ignored.swift,
    fn: async () => {
      const library = join(folder, "libIDAdapterClient.so");
      const strict = ["-swift-version", "6", "-module-name", "IDAdapterClient"];
      const client = sourcesIn("sdk/generated/swift/Sources", ".swift");
      await run({ command: "swiftc", args: [...strict, "-emit-library", "-o", library, ...client] });
      const program = join(folder, "swift_example");
      const example = sourcesIn("sdk/examples/swift", ".swift");
      await run({
        command: "swiftc",
        args: ["-swift-version", "6", "-warnings-as-errors", "-o", program, ...example],
      });
      await expectPortraitOverCutConnections(service, "swift", { command: program, args: [] });
    },
  });

  await t.step({
    name: named("curl makes a portrait, and gets the same one again", ignored.curl),
    ignore: ignored.curl,
    fn: async () => {
      const token = await service.tokenFor("curl");
      const form = { reference_images: `@${photo}`, prompt: "a smile", class_noun: "woman" };
      const args = [
        "--silent",
        "--show-error",
        "--fail-with-body",
        ...["--header", `Authorization: Bearer ${token}`],
        ...["--header", `Idempotency-Key: ${crypto.randomUUID()}`],
        ...Object.entries(form).flatMap(([name, value]) => ["--form", `${name}=${value}`]),
        `${service.address}/v1/generations`,
      ];
      const made = GenerationSchema.parse(JSON.parse(await run({ command: "curl", args })));
      await expectPicture(Uint8Array.fromBase64(made.images[0]!.data!));
      const again = GenerationSchema.parse(JSON.parse(await run({ command: "curl", args })));
      deepEqual(again, made);
    },
  });
  await Deno.remove(folder, { recursive: true });
});
