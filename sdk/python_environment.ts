/** A Python environment with the pinned packages of `requirements.txt`. */

import { join } from "node:path";
import { runCommand } from "./run_command.ts";

const oldest = [3, 11] as const;
const names = ["python3.11", "python3", "python"] as const;

async function isNewEnough(name: string): Promise<boolean> {
  const check = `import sys; sys.exit(sys.version_info < (${oldest.join(", ")}))`;
  try {
    const { success } = await new Deno.Command(name, { args: ["-c", check], stderr: "null" }).output();
    return success;
  } catch {
    // there is none of that name
    return false;
  }
}

async function findPython(): Promise<string> {
  for (const name of names) if (await isNewEnough(name)) return name;
  throw new Error(`Python ${oldest.join(".")} or newer is needed; install it and try again.`);
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch {
    return undefined;
  }
}

/**
 * Makes the environment, or takes the one that is there when it was made of the same requirements.
 *
 * @param folder where it is kept, as an absolute path
 * @param requirements a pip requirements file with exact versions
 * @returns the folder of its commands
 * @throws when there is no Python 3.11 or newer, or pip fails
 */
export async function preparePythonEnvironment(folder: string, requirements: string): Promise<string> {
  const commands = join(folder, "bin");
  const stamp = join(folder, "installed.txt");
  const wanted = await Deno.readTextFile(requirements);
  if (await readIfThere(stamp) === wanted) return commands;
  await runCommand(await findPython(), ["-m", "venv", "--clear", folder]);
  await runCommand(join(commands, "pip"), [
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "--requirement",
    requirements,
  ]);
  // last, so that an installation that was broken off is made anew
  await Deno.writeTextFile(stamp, wanted);
  return commands;
}
