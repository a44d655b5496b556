/**
 * Runs one bench by its name: `deno task bench pause [--option value]`.
 *
 * A bench is a file of this folder (`crash_postgres.ts` is `crash-postgres`) that exports `run(args)`. It prints a table for people and, as its last line, one
 * JSON object {@linkcode Verdict} for machines.
 */

import { cpus } from "node:os";

/** What a bench found. */
export interface Figure {
  /** the one number the bench is about */
  readonly figure: number;
  /** what it is held against */
  readonly target: number;
  /** whether the target is met */
  readonly holds: boolean;
  readonly unit: string;
}

/** A bench's last line. */
export interface Verdict extends Figure {
  readonly bench: string;
  /** the machine, as its processor calls itself */
  readonly processor: string;
}

/** A bench. */
interface Bench {
  /** @param args what followed the bench's name on the command line */
  run(args: readonly string[]): Promise<Figure>;
}

function benchNames(): string[] {
  return [...Deno.readDirSync(import.meta.dirname!)]
    .map(({ name }) => name)
    .filter((name) => name.endsWith(".ts") && name !== "run.ts")
    .map((name) => name.slice(0, -".ts".length).replaceAll("_", "-"))
    .sort();
}

const [name, ...args] = Deno.args;
const names = benchNames();
if (name === undefined || !names.includes(name)) {
  console.error(`usage: deno task bench NAME, where NAME is one of: ${names.join(", ")}`);
  Deno.exit(2);
}
const { run }: Bench = await import(`./${name.replaceAll("-", "_")}.ts`);
const verdict: Verdict = { bench: name, ...await run(args), processor: cpus()[0]?.model.trim() ?? "unknown" };
console.log(JSON.stringify(verdict));
Deno.exit(verdict.holds ? 0 : 1);
