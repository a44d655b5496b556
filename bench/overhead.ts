import { startInference } from "../pipeline/client.ts";
import type { Figure } from "./run.ts";
import { portraitRequest, readBenchOptions, rounded, workerSettings } from "./shared/portrait_request.ts";

/** Share of the time that may be spent outside ONNX Runtime: issue 5. */
const TARGET = 0.02;

/**
 * The share of wall time that the real worker spends outside ONNX Runtime's runs while callers ask at once: choosing
 * batches, copying rows, schedulers, codecs, messages.
 *
 * @param args `--callers COUNT`, `--rounds COUNT`, and those of every bench
 * @returns the share over all rounds
 *
 * @example
 * ```sh
 * deno task bench overhead --callers 8
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { callers: 8, rounds: 3 });
  const { callers, rounds } = options.numbers;
  const inside = { seconds: 0, pictures: 0, ticks: 0 };
  const inference = await startInference({
    ...workerSettings(options),
    onMeasured: ({ graphs, ticks }) => {
      inside.seconds += graphs.reduce((sum, { seconds }) => sum + seconds, 0);
      inside.pictures += ticks.reduce((sum, { pictures }) => sum + pictures, 0);
      inside.ticks += ticks.length;
    },
  });
  const input = await portraitRequest(options);
  const ask = () =>
    Promise.all(Array.from({ length: callers }, (_, seed) => inference.generate({ ...input, seed })));
  const rows: Record<string, Record<string, number>> = {};
  const all = { wall: 0, inside: 0 };
  try {
    // a round that does not count: V8 compiles what runs often
    await ask();
    for (let round = 1; round <= rounds; round++) {
      Object.assign(inside, { seconds: 0, pictures: 0, ticks: 0 });
      const began = performance.now();
      await ask();
      const wall = (performance.now() - began) / 1000;
      all.wall += wall;
      all.inside += inside.seconds;
      rows[`round ${round}`] = {
        "seconds": rounded(wall),
        "in ONNX Runtime": rounded(inside.seconds),
        "outside, %": rounded(100 * (1 - inside.seconds / wall)),
        "pictures a step": rounded(inside.pictures / inside.ticks),
        "images a second": rounded(callers / wall),
      };
    }
  } finally {
    await inference.close();
  }
  console.log(
    `${callers} callers, ${input.numInferenceSteps} steps, batches of ${inference.load.maxBatch} at most, ` +
      `${options.threads} threads`,
  );
  console.table(rows);
  const figure = rounded(1 - all.inside / all.wall, 4);
  return { figure, target: TARGET, holds: figure <= TARGET, unit: "share of wall time" };
}
