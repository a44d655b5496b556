import type { Figure } from "./run.ts";
import { Activator } from "./shared/activator.ts";
import { median, portraitRequest, readBenchOptions, rounded } from "./shared/portrait_request.ts";
import { startPostgres } from "./shared/postgres_server.ts";
import { ServiceInstance } from "./shared/service_instance.ts";

/**
 * Scale to zero on one machine: the process is started by the first request of many at once, stopped when nobody asks (once
 * with a generation of respond-async still running), and started again.
 *
 * @param args `--rounds COUNT`, `--clients COUNT` requests at once, `--idle SECONDS` until the stop, and those of every bench
 * @returns requests that were not answered as they should be
 *
 * @example
 * ```sh
 * deno task bench scale-to-zero --rounds 3
 * ```
 */
export async function run(args: readonly string[]): Promise<Figure> {
  const options = readBenchOptions(args, { rounds: 3, clients: 6, idle: 1 });
  const { rounds, clients, idle } = options.numbers;
  await using server = await startPostgres();
  const stateFolder = await Deno.makeTempDir();
  await using instance = new ServiceInstance({
    stateFolder,
    variables: {
      DATABASE_URL: await server.createDatabase(),
      ENCRYPTION_KEYS: crypto.getRandomValues(new Uint8Array(32)).toBase64(),
      THREADS: String(options.threads),
      BUNDLE: options.bundle,
    },
  });
  const seconds: Record<"ready" | "stopped" | "firstAnswer" | "warmAnswer", number[]> = {
    ready: [],
    stopped: [],
    firstAnswer: [],
    warmAnswer: [],
  };
  await using activator = new Activator({
    service: instance,
    idleMilliseconds: idle * 1000,
    onReady: (value) => seconds.ready.push(value),
    onStopped: (value) => seconds.stopped.push(value),
  });
  // the key is made by the first process; whoever signs needs it before
  const token = await instance.token("bench");
  const input = await portraitRequest(options);
  const body = (steps: number) =>
    JSON.stringify({
      reference_images: input.referenceImages.map((photo) => photo.toBase64()),
      prompt: input.prompt,
      class_noun: input.classNoun,
      num_inference_steps: steps,
    });
  let sent = 0;
  const lost: string[] = [];
  /** One request; what is not answered as expected is lost. */
  const ask = async (
    expected: number,
    path: string,
    init: RequestInit = {},
  ): Promise<Response | undefined> => {
    sent++;
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json", ...init.headers };
    try {
      const response = await fetch(activator.address + path, { ...init, headers });
      if (response.status === expected) return response;
      lost.push(`${path}: ${response.status} ${await response.text()}`);
    } catch (error) {
      lost.push(`${path}: ${error}`);
    }
  };
  const portrait = async (into: number[]) => {
    const began = performance.now();
    const response = await ask(200, "/v1/generations", { method: "POST", body: body(4) });
    const answer = await response?.json();
    if (response !== undefined && answer.images?.length !== 1) lost.push("an answer without a portrait");
    into.push((performance.now() - began) / 1000);
  };
  const untilStopped = async () => {
    const stops = seconds.stopped.length;
    while (seconds.stopped.length === stops) await new Promise((resolve) => setTimeout(resolve, 10));
    if (activator.running) lost.push("the process runs although nobody asks");
  };

  for (let round = 0; round < rounds; round++) {
    await Promise.all(Array.from({ length: clients }, () => portrait(seconds.firstAnswer)));
    await portrait(seconds.warmAnswer);
    // accepted, and nobody waits: SIGTERM comes while it runs
    const accepted = await ask(202, "/v1/generations", {
      method: "POST",
      body: body(100),
      headers: { Prefer: "respond-async" },
    });
    const { id } = await accepted?.json() ?? {};
    await untilStopped();
    // a request right into a stop: this one starts the process, is answered, and the next comes while it ends
    const found = await (await ask(200, `/v1/generations/${id}`))?.json();
    if (found?.status !== "succeeded") lost.push(`the accepted generation is ${found?.status}`);
    const stop = activator.stop();
    await ask(200, "/v1/account");
    await stop;
    await untilStopped();
  }
  console.table({
    "requests": { value: sent },
    "starts": { value: seconds.ready.length },
    "start to ready, median s": { value: rounded(median(seconds.ready)) },
    "start to ready, longest s": { value: rounded(Math.max(...seconds.ready)) },
    "first request of a start to its portrait, median s": { value: rounded(median(seconds.firstAnswer)) },
    "the same when warm, median s": { value: rounded(median(seconds.warmAnswer)) },
    "SIGTERM to the end, median s": { value: rounded(median(seconds.stopped)) },
    "SIGTERM to the end with a generation under way, longest s": {
      value: rounded(Math.max(...seconds.stopped)),
    },
    "lost": { value: lost.length },
  });
  for (const text of lost) console.error(text);
  await Deno.remove(stateFolder, { recursive: true });
  return { figure: lost.length, target: 0, holds: lost.length === 0, unit: "requests lost" };
}
