/** Runs the generators, which are programs of their own. */

const decoder = new TextDecoder();

/** What to run a command with beside its arguments. */
export interface RunOptions {
  /** working folder; default this process's */
  readonly cwd?: string;
  /** variables beside this process's */
  readonly env?: Record<string, string>;
}

/**
 * Runs a command quietly.
 *
 * @param command name or path
 * @param args its arguments
 * @param options folder and environment
 * @returns what it wrote, both streams one after the other
 * @throws with what it wrote, when it is not there or fails
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { success, code, stdout, stderr } = await new Deno.Command(command, {
    args: [...args],
    stdin: "null",
    ...options,
  }).output();
  const written = decoder.decode(stdout) + decoder.decode(stderr);
  if (!success) throw new Error(`${command} ended with exit code ${code}:\n${written}`);
  return written;
}
