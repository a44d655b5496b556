/** Which compilers are here; without them, or before `deno task sdk`, their tests are ignored. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./cut_connections.ts";

/** In CI nothing may be missing but Swift, for which Debian 12 has no compiler. */
const required = Deno.env.get("REQUIRE_SDKS") !== undefined;

/** npm's `kotlin-compiler`, unpacked. */
const kotlin = Deno.env.get("KOTLIN_HOME") ?? "";
const packages = join(repository, "sdk/.venv/lib");

/** Where the Python environment keeps its packages, whichever Python it is. */
function generatorJar(): string {
  const [python] = existsSync(packages) ? [...Deno.readDirSync(packages)] : [];
  return join(packages, python?.name ?? "", "site-packages/openapi_generator_cli/openapi-generator.jar");
}

/** Debian's packages, and Jackson with its date types, which only the generator's own jar has; forms go by httpmime. */
export const javaLibraries: readonly string[] = [
  "/usr/share/java/jakarta-annotation-api.jar",
  "/usr/share/java/httpmime.jar",
  "/usr/share/java/httpcore.jar",
  generatorJar(),
];

/** What Kotlin's programs run on; org.json is Android's own, Debian's libandroid-json-java. */
export const kotlinLibraries: readonly string[] = [
  join(kotlin, "lib/kotlin-stdlib.jar"),
  "/usr/share/java/com.android.json.jar",
];

/** What the Kotlin compiler runs on. */
export const kotlinCompiler: string = join(kotlin, "lib/*");

function onPath(command: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((folder) => existsSync(join(folder, command)));
}

function missing(...paths: readonly string[]): boolean {
  return !required && !paths.every((path) => existsSync(join(repository, path)) || existsSync(path));
}

/** Whether a language's tests are to be ignored. */
export const ignored = {
  typescript: missing("sdk/generated/typescript"),
  python: missing("sdk/generated/python"),
  java: missing("sdk/generated/java", ...javaLibraries) || (!required && !onPath("javac")),
  kotlin: missing(...kotlinLibraries) || (!required && !onPath("java")),
  swiftSyntax: missing("sdk/generated/swift"),
  swift: !onPath("swiftc") || !existsSync(join(repository, "sdk/generated/swift")),
  curl: !required && !onPath("curl"),
} as const;

/**
 * A test's name, with the reason where it is ignored.
 *
 * @param name of the test
 * @param isIgnored one of {@linkcode ignored}
 */
export function named(name: string, isIgnored: boolean): string {
  return isIgnored ? `${name} (ignored: no \`deno task sdk\` yet, or no compiler)` : name;
}
