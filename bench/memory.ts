import { startService } from "../demo/service_process.ts";
import { signDevelopmentToken } from "../routes/tokens/development_token.ts";
import type { Figure } from "./run.ts";
import { portraitRequest, readBenchOptions, rounded } from "./shared/portrait_request.ts";

/** Resident memory at the end over that at the beginning: issue 5. */
const TARGET = 1.05;

/** Looks at memory between the first and the last that are compared. */
const LOOKS = 6;

/**
 * Whether the real service grows: its resident memory after many generations against after a few.
 *
 * @param args `--first COUNT`, `--last COUNT`, `--callers COUNT`, `--steps COUNT`, and those of every bench
 * @returns the ratio
 *
 * @example
 * ```sh
 * deno task bench memory --last 1000
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { first: 20, last: 200, callers: 4, steps: 2 });
  const { first, last, callers, steps } = options.numbers;
  const input = await portraitRequest(options, { numInferenceSteps: steps });
  await using service = await startService(AbortSignal.timeout(300_000), {
    BUNDLE: options.bundle,
    THREADS: String(options.threads),
  });
  const token = await signDevelopmentToken(service.jwt, { subject: "bench", expiresIn: "1h" });
  const body = JSON.stringify({
    reference_images: input.referenceImages.map((photo) => photo.toBase64()),
    prompt: input.prompt,
    class_noun: input.classNoun,
    num_inference_steps: steps,
  });
  const generate = async () => {
    const response = await fetch(`${service.address}/v1/generations`, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body,
    });
    if (!response.ok) throw new Error(`the service answered ${await response.text()}`);
    await response.bytes();
  };
  const marks = [
    first,
    ...Array.from({ length: LOOKS }, (_, i) => first + Math.round((last - first) * (i + 1) / LOOKS)),
  ];
  const rows: Record<string, Record<string, number>> = {};
  const seen: number[] = [];
  let done = 0;
  for (const mark of marks) {
    while (done < mark) {
      const wave = Math.min(callers, mark - done);
      await Promise.all(Array.from({ length: wave }, generate));
      done += wave;
    }
    seen.push(await residentMemory(service.address));
    rows[`after ${mark}`] = {
      "MiB": rounded(seen.at(-1)! / 2 ** 20, 1),
      "ratio": rounded(seen.at(-1)! / seen[0]!, 3),
    };
  }
  console.log(`${callers} callers at once, ${steps} steps, ${options.threads} threads`);
  console.table(rows);
  const figure = rounded(seen.at(-1)! / seen[0]!, 3);
  return { figure, target: TARGET, holds: figure <= TARGET, unit: "times" };
}

/** Bytes, as the service itself tells them. */
async function residentMemory(address: string): Promise<number> {
  const page = await (await fetch(`${address}/metrics`)).text();
  const [, bytes] = /^idadapter_resident_memory_bytes (\d+)/m.exec(page) ?? [];
  if (bytes === undefined) throw new Error("the service does not tell its memory");
  return Number(bytes);
}
