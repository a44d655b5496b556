import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadManifest } from "../models/manifest.ts";
import { trainingFolder } from "./shared/diffusers_peer.ts";
import { median, readBenchOptions, rounded } from "./shared/portrait_request.ts";
import type { Figure } from "./run.ts";

/** Share of diffusers' time: issue 5. */
const TARGET = 0.25;

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * From the start of a process to its first finished picture on disk: the pipeline in Deno against a diffusers script.
 *
 * @param args `--rounds COUNT` and those of `readBenchOptions`
 * @returns the pipeline's median over diffusers'
 *
 * @example
 * ```sh
 * deno task bench start --python venv/bin/python --threads 2
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 3 });
  const { bundle, photo, threads, numbers: { rounds } } = options;
  const { defaults } = await loadManifest(bundle);
  const folder = await Deno.makeTempDir();
  const own = [join(folder, "own.png"), "--bundle", bundle, "--photo", photo, "--threads", String(threads)];
  const peer = [
    bundle,
    photo,
    join(folder, "peer.png"),
    threads,
    defaults.num_inference_steps,
    defaults.scheduler,
    JSON.stringify({
      negative_prompt: defaults.negative_prompt,
      guidance_scale: defaults.guidance_scale,
      identity_guidance_scale: defaults.identity_guidance_scale,
      early_guidance_scale: defaults.early_guidance_scale,
      early_identity_guidance_scale: defaults.early_identity_guidance_scale,
      early_guidance_until: defaults.early_guidance_until,
      guidance_rescale: defaults.guidance_rescale,
      pose_variation: defaults.pose_variation,
    }),
  ];
  const commands = {
    "this service": new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "-A", here("shared/first_picture.ts"), ...own],
    }),
    diffusers: new Deno.Command(options.python, {
      args: [here("shared/diffusers_script.py"), ...peer.map(String)],
      env: { PYTHONPATH: trainingFolder, OMP_NUM_THREADS: String(threads) },
    }),
  };
  const seconds: Record<keyof typeof commands, number[]> = { "this service": [], diffusers: [] };
  const first: typeof seconds = { "this service": [], diffusers: [] };
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const name of ["this service", "diffusers"] as const) {
        const start = performance.now();
        const { success, stderr } = await commands[name].output();
        if (!success) throw new Error(`${name} failed: ${new TextDecoder().decode(stderr)}`);
        // The first round reads everything from disk once, for both; ours keeps what ONNX Runtime makes of the graphs.
        (round > 0 ? seconds : first)[name].push((performance.now() - start) / 1000);
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  console.table(Object.fromEntries(
    Object.entries(seconds).map((
      [name, values],
    ) => [name, {
      "median, s": rounded(median(values)),
      "the first, s": rounded(first[name as keyof typeof commands][0]!),
    }]),
  ));
  const figure = rounded(median(seconds["this service"]) / median(seconds.diffusers));
  return { figure, target: TARGET, holds: figure <= TARGET, unit: "of diffusers' time" };
}
