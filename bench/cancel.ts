import { startInference } from "../pipeline/client.ts";
import type { Figure } from "./run.ts";
import { portraitRequest, readBenchOptions, rounded, workerSettings } from "./shared/portrait_request.ts";

/** Denoising steps from a cancellation to its place being taken: issue 5. */
const TARGET = 2;

/**
 * How many denoising steps the real worker takes from a cancellation until the next in the queue has the place.
 *
 * Steps that were under way or whose news was still on its way when it was canceled count as well.
 *
 * @param args `--rounds COUNT`, `--places COUNT`, and those of every bench
 * @returns the most steps of all rounds
 *
 * @example
 * ```sh
 * deno task bench cancel --rounds 20
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 12, places: 3 });
  const { rounds, places } = options.numbers;
  let ticks = 0;
  const inference = await startInference({
    ...workerSettings(options),
    maxBatch: places,
    onMeasured: (measured) => ticks += measured.ticks.length,
  });
  const input = await portraitRequest(options, { numInferenceSteps: 100 });
  /** Starts one that only ends when it is canceled. */
  const begin = (seed: number) => {
    const controller = new AbortController();
    const started = Promise.withResolvers<void>();
    const ended = inference.generate({ ...input, seed }, {
      signal: controller.signal,
      onEvent: ({ type }) => type === "started" && started.resolve(),
    }).then(() => {}, () => {});
    return { controller, started: started.promise, ended };
  };
  const rows: Record<string, Record<string, number>> = {};
  let most = 0;
  try {
    let running = Array.from({ length: places }, (_, seed) => begin(seed));
    await Promise.all(running.map(({ started }) => started));
    for (let round = 1; round <= rounds; round++) {
      const next = begin(places + round);
      // at another moment of a step each time
      await new Promise((resolve) => setTimeout(resolve, 150 + 37 * round));
      const [canceled, ...others] = running as [typeof next, ...typeof running];
      const [before, began] = [ticks, performance.now()];
      canceled.controller.abort();
      await next.started;
      const steps = ticks - before;
      most = Math.max(most, steps);
      rows[`round ${round}`] = { steps, "milliseconds": rounded(performance.now() - began, 0) };
      await canceled.ended;
      running = [...others, next];
    }
    for (const { controller } of running) controller.abort();
    await Promise.all(running.map(({ ended }) => ended));
  } finally {
    await inference.close();
  }
  console.log(`${places} generations running and one waiting, ${options.threads} threads`);
  console.table(rows);
  return { figure: most, target: TARGET, holds: most <= TARGET, unit: "steps" };
}
