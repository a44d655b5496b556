import { startInference } from "../pipeline/client.ts";
import type { Figure } from "./run.ts";
import { portraitRequest, readBenchOptions, rounded, workerSettings } from "./shared/portrait_request.ts";

/** Milliseconds the main thread may be held up: issue 3. */
const TARGET = 50;

/** Milliseconds between the ticks of the watch on the main thread. */
const TICK = 5;

/**
 * The main thread's longest pause while the real worker makes portraits and checks a photo.
 *
 * @param args `--bundle FOLDER`, `--photo FILE`, `--rounds COUNT`, `--images COUNT`, `--steps COUNT`, `--threads COUNT`
 * @returns the longest pause in milliseconds
 *
 * @example
 * ```sh
 * deno task bench pause --rounds 5
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 3, images: 4, steps: 20 });
  const { rounds, images, steps } = options.numbers;
  const input = await portraitRequest(options, { numImages: images, numInferenceSteps: steps });
  const [photo] = input.referenceImages as [Uint8Array];
  const inference = await startInference(workerSettings(options));
  const rows: Record<string, Record<string, number>> = {};
  let longest = 0;
  try {
    rows["idle"] = await watch(() => new Promise<void>((resolve) => setTimeout(resolve, 1000)));
    for (let round = 1; round <= rounds; round++) {
      const row = await watch(() => Promise.all([inference.generate(input), inference.checkFace(photo)]));
      rows[`round ${round}`] = row;
      longest = Math.max(longest, row["longest pause, ms"]!);
    }
  } finally {
    await inference.close();
  }
  console.log(`${images} portraits of ${steps} steps a round, ${options.threads} threads`);
  console.table(rows);
  return { figure: rounded(longest), target: TARGET, holds: longest < TARGET, unit: "ms" };
}

/** Runs `work` while the main thread ticks, and tells how late its ticks came. */
async function watch(work: () => Promise<unknown>): Promise<Record<string, number>> {
  const gaps: number[] = [];
  const start = performance.now();
  let last = start;
  const mark = () => {
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  };
  const timer = setInterval(mark, TICK);
  await work();
  // What held the thread up at the very end counts too.
  mark();
  clearInterval(timer);
  gaps.sort((one, other) => one - other);
  return {
    "seconds": rounded((performance.now() - start) / 1000),
    "ticks": gaps.length,
    "median pause, ms": rounded(gaps[gaps.length >> 1]!),
    "99th percentile, ms": rounded(gaps[Math.floor(0.99 * (gaps.length - 1))]!),
    "longest pause, ms": rounded(gaps.at(-1)!),
  };
}
