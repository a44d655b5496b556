/** `deno task doctor`: says whether the service could run here as configured, and what to do where it could not. */

import { parseArgs } from "node:util";
import { type Config, ConfigError, loadConfig } from "../config.ts";
import { checkBundle } from "./check_bundle.ts";
import { checkDatabase } from "./check_database.ts";
import { checkDisk, checkPermissions, checkPort } from "./check_machine.ts";
import { checkSigningKeys } from "./check_signing_keys.ts";
import { failed, type Finding, fine, messageOf } from "./finding.ts";

const usage =
  `Checks configuration, bundle, execution provider, database, keys, clock, disk, permissions and port.
Reads the same environment as the service and changes nothing. Exit code 1 when a check failed.

  --json   one JSON object instead of a line a check`;

async function examine(config: Config, stateFolder: string): Promise<Finding[]> {
  const findings = [
    fine("configuration", "every variable is understood"),
    ...await checkBundle(config),
    ...await checkDatabase(config),
    ...await checkSigningKeys(config),
    await checkDisk(stateFolder),
    await checkPermissions(stateFolder),
    await checkPort(config),
  ];
  if (findings.some(({ check }) => check === "clock")) return findings;
  return [...findings, fine("clock", `${new Date().toISOString()}; nothing here to compare it with`)];
}

function readConfig(): Config | readonly Finding[] {
  try {
    return loadConfig(Deno.env.toObject(), {
      cores: navigator.hardwareConcurrency,
      workingDirectory: Deno.cwd(),
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((problem) =>
      failed("configuration", problem, "See the table in docs/api.md; the other checks need it right.")
    );
  }
}

function print(findings: readonly Finding[], json: boolean): void {
  if (json) {
    const ok = findings.every(({ status }) => status !== "failed");
    console.log(JSON.stringify({ ok, checks: findings }, null, 2));
    return;
  }
  const width = Math.max(...findings.map(({ check }) => check.length));
  for (const { check, status, detail, remedy } of findings) {
    console.log(
      `${status.padEnd(8)} ${check.padEnd(width)}  ${detail}${remedy === null ? "" : `. ${remedy}`}`
        .replaceAll(/\s*\n\s*/g, " "),
    );
  }
}

if (import.meta.main) {
  try {
    const { values } = parseArgs({
      args: Deno.args,
      options: { json: { type: "boolean", default: false }, help: { type: "boolean", default: false } },
    });
    if (values.help) {
      console.log(usage);
      Deno.exit(0);
    }
    const config = readConfig();
    const findings = "jwt" in config ? await examine(config, config.stateFolder) : config;
    print(findings, values.json);
    Deno.exit(findings.some(({ status }) => status === "failed") ? 1 : 0);
  } catch (error) {
    console.error(`${messageOf(error)}\n\n${usage}`);
    Deno.exit(2);
  }
}
