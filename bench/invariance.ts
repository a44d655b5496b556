import { startInference } from "../pipeline/client.ts";
import type { Inference } from "../pipeline/inference.ts";
import { decodePhoto } from "../pipeline/photo.ts";
import type { GenerateInput } from "../pipeline/protocol.ts";
import type { Figure } from "./run.ts";
import { portraitRequest, readBenchOptions, rounded, workerSettings } from "./shared/portrait_request.ts";

/** Levels of 255 that a picture may be away from itself: issue 5. */
const TARGET = 1;

/**
 * How far the pictures of a request are from those it gets alone, when it runs among others in ever new company.
 *
 * @param args `--rounds COUNT`, `--steps COUNT`, and those of every bench
 * @returns the largest difference of any byte of any picture
 *
 * @example
 * ```sh
 * deno task bench invariance --rounds 4
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 3, steps: 12 });
  const { rounds, steps } = options.numbers;
  const inputs = await variedRequests(await portraitRequest(options, { numInferenceSteps: steps }));
  const batches: number[] = [];
  const inference = await startInference({
    ...workerSettings(options),
    maxBatch: 8,
    onMeasured: ({ ticks }) => batches.push(...ticks.map(({ pictures }) => pictures)),
  });
  const rows: Record<string, Record<string, number>> = {};
  let furthest = 0;
  try {
    const alone: Uint8Array[][] = [];
    for (const input of inputs) alone.push(await picturesOf(inference, input));
    for (let round = 1; round <= rounds; round++) {
      batches.length = 0;
      const together = await Promise.all(inputs.map(async (input, index) => {
        // newcomers at other steps of the others in each round
        await new Promise((resolve) => setTimeout(resolve, (index * 7 * round % inputs.length) * 20));
        return await picturesOf(inference, input);
      }));
      const differences = together.flatMap((pictures, index) =>
        pictures.map((picture, place) => compare(picture, alone[index]![place]!))
      );
      const most = Math.max(...differences.map(({ largest }) => largest));
      furthest = Math.max(furthest, most);
      rows[`round ${round}`] = {
        "pictures": differences.length,
        "largest difference": most,
        "bytes that differ, %": rounded(
          100 * differences.reduce((sum, { share }) => sum + share, 0) / differences.length,
          3,
        ),
        "pictures a step": rounded(batches.reduce((sum, pictures) => sum + pictures, 0) / batches.length),
      };
    }
  } finally {
    await inference.close();
  }
  console.log(`${inputs.length} requests of ${steps} steps, ${options.threads} threads`);
  console.table(rows);
  return { figure: furthest, target: TARGET, holds: furthest <= TARGET, unit: "levels of 255" };
}

/** Requests that differ in all that a row of the batch can differ in. */
function variedRequests(input: GenerateInput): GenerateInput[] {
  const { numInferenceSteps: steps } = input;
  return [
    input,
    { ...input, seed: 2, guidanceScale: 1 },
    { ...input, seed: 3, scheduler: "euler", guidanceScale: 7.5, numInferenceSteps: Math.ceil(steps / 2) },
    { ...input, seed: 4, scheduler: "ddim", identityStrength: 0.4 },
    { ...input, seed: 5, prompt: "an oil painting, smiling", negativePrompt: "glasses", numImages: 2 },
    { ...input, seed: 6, numInferenceSteps: steps + 5, identityStrength: 2 },
  ];
}

async function picturesOf(inference: Inference, input: GenerateInput): Promise<Uint8Array[]> {
  const { images } = await inference.generate(input);
  return await Promise.all(images.map(async ({ data }) => (await decodePhoto(data)).data));
}

function compare(one: Uint8Array, other: Uint8Array): { largest: number; share: number } {
  let [largest, differing] = [0, 0];
  for (const [index, value] of one.entries()) {
    const difference = Math.abs(value - (other[index] ?? 999));
    if (difference > 0) differing++;
    largest = Math.max(largest, difference);
  }
  return { largest, share: differing / one.length };
}
