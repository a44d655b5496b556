import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadManifest } from "../models/manifest.ts";
import { trainingFolder } from "./peers/diffusers_peer.ts";
import { median, readPeerOptions } from "./peers/peer_options.ts";
import type { Figure } from "./run.ts";

/** Share of diffusers' time: issue 5. */
const TARGET = 0.25;

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * From the start of a process to its first finished picture on disk: the pipeline in Deno against a diffusers script.
 *
 * @param args see `readPeerOptions`
 * @returns the pipeline's median over diffusers'
 *
 * @example
 * ```sh
 * deno task bench start --python venv/bin/python --threads 2
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readPeerOptions(args, 3);
  const { defaults } = await loadManifest(options.bundle);
  const folder = await Deno.makeTempDir();
  const task = (picture: string) => [
    options.bundle,
    options.photo,
    join(folder, picture),
    String(options.threads),
    String(defaults.num_inference_steps),
  ];
  const commands = {
    "this service": new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "-A", here("peers/first_picture.ts"), ...task("own.png")],
    }),
    diffusers: new Deno.Command(options.python, {
      args: [here("peers/diffusers_script.py"), ...task("peer.png")],
      env: { PYTHONPATH: trainingFolder, OMP_NUM_THREADS: String(options.threads) },
    }),
  };
  const seconds: Record<keyof typeof commands, number[]> = { "this service": [], diffusers: [] };
  try {
    for (let round = 0; round <= options.rounds; round++) {
      for (const name of ["this service", "diffusers"] as const) {
        const start = performance.now();
        const { success, stderr } = await commands[name].output();
        if (!success) throw new Error(`${name} failed: ${new TextDecoder().decode(stderr)}`);
        // The first round reads everything from disk once, for both.
        if (round > 0) seconds[name].push((performance.now() - start) / 1000);
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  console.table(Object.fromEntries(
    Object.entries(seconds).map((
      [name, values],
    ) => [name, { "median, s": Number(median(values).toFixed(2)) }]),
  ));
  const figure = Math.round(100 * median(seconds["this service"]) / median(seconds.diffusers)) / 100;
  return { figure, target: TARGET, holds: figure <= TARGET, unit: "of diffusers' time" };
}
