/**
 * Lays out the folder that the image holds: the service's sources, and of its packages only what the service imports, for
 * this platform. Run by the Dockerfile as `deno run -A deploy/image/production.ts SOURCE TARGET`.
 */

import { join } from "node:path";

/** What a process of the service starts with. */
const entries = ["main.ts", "pipeline/worker.ts", "deploy/image/health_check.ts"];

/** Of this package one file is sent to browsers; the hundred packages it was built from are of no use here. */
const browserFile = { package: "@scalar/api-reference", path: "dist/browser/standalone.js" };

/** The parts of deno.json that matter here. */
interface DenoConfig {
  imports: Record<string, string>;
  [field: string]: unknown;
}

/** The parts of `deno info --json` that matter here. */
interface ModuleGraph {
  readonly modules: readonly {
    readonly kind?: string;
    readonly specifier: string;
    readonly error?: string;
  }[];
}

async function deno(cwd: string, ...args: string[]): Promise<string> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd,
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`deno ${args.join(" ")} failed`);
  return new TextDecoder().decode(stdout);
}

async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await Deno.readTextFile(path));
}

/** `@scope/name` of `npm:/@scope/name@1.2.3/path`. */
function packageOf(specifier: string): string | undefined {
  return specifier.match(/^npm:\/?((?:@[^/]+\/)?[^@/]+)/)?.[1];
}

/** Names of the packages that the service imports. */
async function importedPackages(folder: string): Promise<Set<string>> {
  const names = new Set<string>();
  for (const entry of entries) {
    const { modules }: ModuleGraph = JSON.parse(
      await deno(folder, "info", "--json", "--node-modules-dir=none", entry),
    );
    for (const { specifier, error } of modules) {
      if (error !== undefined) throw new Error(`${specifier}: ${error}`);
      const name = packageOf(specifier);
      if (name !== undefined) names.add(name);
    }
  }
  return names;
}

/** Installs those imports of deno.json that `keep` says, in the versions of deno.lock and no others. */
async function install(folder: string, config: DenoConfig, keep: (name: string) => boolean): Promise<void> {
  const imports = Object.fromEntries(
    Object.entries(config.imports).filter(([, specifier]) => keep(packageOf(specifier) ?? specifier)),
  );
  const { tasks: _, ...rest } = config;
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ ...rest, imports }, null, 2) + "\n");
  type Lock = { npm: Record<string, { integrity: string }> };
  const lock = join(folder, "deno.lock");
  const before: Lock = await readJson(lock);
  await deno(folder, "install", "--quiet");
  const { npm }: Lock = await readJson(lock);
  for (const [name, { integrity }] of Object.entries(npm)) {
    if (before.npm[name]?.integrity !== integrity) throw new Error(`${name} is not in deno.lock as it is`);
  }
}

/** Packages bring libraries for every platform, and files that only editors and debuggers read. */
async function removeUnused(folder: string): Promise<void> {
  const { os, arch } = Deno.build;
  const ours = `/${os}/${arch === "x86_64" ? "x64" : "arm64"}`;
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    const path = join(folder, name);
    const foreign = /\/bin\/napi-v\d+\/[^/]+\/[^/]+$/.test(path) && !path.endsWith(ours);
    // the base is Debian, whose C library is glibc
    if (isDirectory && (foreign || name.includes("linuxmusl"))) await Deno.remove(path, { recursive: true });
    else if (isDirectory) await removeUnused(path);
    else if (isFile && /\.(?:map|d\.[mc]?ts|md)$/.test(name)) await Deno.remove(path);
  }
}

const [source, target] = Deno.args;
if (source === undefined || target === undefined) {
  console.error("usage: production.ts SOURCE TARGET");
  Deno.exit(2);
}
const config: DenoConfig = await readJson(join(source, "deno.json"));
const served = await importedPackages(source);

const browser = await Deno.makeTempDir();
await Deno.copyFile(join(source, "deno.lock"), join(browser, "deno.lock"));
await install(browser, config, (name) => name === browserFile.package);
await install(target, config, (name) => served.has(name));
await removeUnused(join(target, "node_modules"));
// as it lies there is how it is used: a start looks for nothing that was removed, and installs nothing
const installed: DenoConfig = await readJson(join(target, "deno.json"));
await Deno.writeTextFile(
  join(target, "deno.json"),
  JSON.stringify({ ...installed, nodeModulesDir: "manual" }, null, 2) + "\n",
);
const file = join("node_modules", browserFile.package, browserFile.path);
await Deno.mkdir(join(target, file, ".."), { recursive: true });
await Deno.copyFile(join(browser, file), join(target, file));
console.log(`packages: ${[...served].sort().join(", ")}`);
