/** The generators, each a kept one of its language's own world, and what it is told. */

import { createClient } from "@hey-api/openapi-ts";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { preparePythonEnvironment } from "./python_environment.ts";
import { runCommand } from "./run_command.ts";

const repository = fileURLToPath(new URL("..", import.meta.url));
const room = join(repository, "sdk");
/** From the repository's root, where the generators run. OpenAPI 3.1: all of them read it. */
const contract = "openapi.json";

/** Writes one language's client below `sdk/generated/`. */
export type Generator = () => Promise<void>;

/** Where a client is written. */
export const generatedFolder: string = join(room, "generated");

async function pythonCommands(): Promise<string> {
  return await preparePythonEnvironment(join(room, ".venv"), join(room, "requirements.txt"));
}

async function emptyFolder(name: string): Promise<string> {
  const folder = join(generatedFolder, name);
  await Deno.remove(folder, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(folder, { recursive: true });
  return folder;
}

/** TypeScript, on `fetch`: `@hey-api/openapi-ts`. */
async function generateTypeScript(): Promise<void> {
  await createClient({
    input: join(repository, contract),
    // Deno, Node.js and bundlers of today all want the file's whole name
    output: { path: await emptyFolder("typescript"), module: { extension: ".ts" } },
    plugins: ["@hey-api/client-fetch"],
    logs: { level: "error" },
  });
}

/** Python, on httpx, with types: `openapi-python-client`. */
async function generatePython(): Promise<void> {
  const commands = await pythonCommands();
  await runCommand(join(commands, "openapi-python-client"), [
    "generate",
    "--path",
    contract,
    "--config",
    "sdk/python.yaml",
    "--output-path",
    await emptyFolder("python"),
    "--overwrite",
    "--fail-on-warning",
  ], {
    cwd: repository,
    // the hooks of python.yaml find the environment's own ruff
    env: { PATH: `${commands}:${Deno.env.get("PATH") ?? ""}` },
  });
}

/** `openapi-generator`, with a configuration of this room's. */
async function generateWithJava(language: string): Promise<void> {
  await emptyFolder(language);
  const jar = await findGeneratorJar(await pythonCommands());
  await runCommand("java", [
    // it lives three seconds: the optimising compiler and parallel collectors would cost more than they give
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-jar",
    jar,
    "generate",
    "--config",
    `sdk/${language}.yaml`,
  ], { cwd: repository });
}

/**
 * Finds the jar of `openapi-generator`, which its PyPI package holds. Jackson with its date types, which the Java client
 * runs on, is inside too.
 *
 * @param commands the folder of the Python environment's commands
 * @returns its path
 * @throws when the package is not installed
 */
export async function findGeneratorJar(commands: string): Promise<string> {
  const print = "import openapi_generator_cli; print(openapi_generator_cli.__file__)";
  const file = (await runCommand(join(commands, "python"), ["-c", print])).trim();
  return join(dirname(file), "openapi-generator.jar");
}

/** Every generator by its language. */
export const generators: Readonly<Record<string, Generator>> = {
  typescript: generateTypeScript,
  python: generatePython,
  java: () => generateWithJava("java"),
  swift: () => generateWithJava("swift"),
};
