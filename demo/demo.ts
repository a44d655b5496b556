/**
 * `deno task demo`: starts the real service, asks it for portraits of the person in a photo, writes them down.
 *
 * Exit codes: 0 when the portraits are written, 1 when the service refused or failed, 2 when an option is wrong, 130
 * after Ctrl-C.
 */

import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { FaceReportBody } from "../openapi/face.ts";
import type { Generation } from "../openapi/generation.ts";
import { signDevelopmentToken } from "../routes/tokens/development_token.ts";
import { checkPhoto, generatePortraits } from "./api_client.ts";
import { drawContactSheet } from "./contact_sheet.ts";
import { DemoFailure } from "./failure.ts";
import { type DemoOptions, parseDemoOptions, usage, UsageError } from "./options.ts";
import { createProgressView } from "./progress_view.ts";
import { startService } from "./service_process.ts";

const repository = fileURLToPath(new URL("..", import.meta.url));
/** `deno task` runs at the root and tells in INIT_CWD where the caller stands. */
const caller = Deno.env.get("INIT_CWD") ?? Deno.cwd();

const encoder = new TextEncoder();
const write = (text: string) => void Deno.stdout.writeSync(encoder.encode(text));
const say = (label: string, text: string) => write(`${label.padEnd(14)}${text}\n`);

/** A path as the caller would type it. */
function shown(path: string): string {
  const near = relative(caller, path);
  return near.startsWith("..") ? path : near;
}

async function readPhoto(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await Deno.readFile(path);
  } catch {
    throw new UsageError(`--photo: ${path} cannot be read`);
  }
}

async function makeOutFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch {
    throw new UsageError(`--out: ${path} cannot be made a folder`);
  }
}

/** Tells what the service thinks of the photo. */
function reportPhoto(path: string, { width, height, faces, problems }: FaceReportBody): void {
  const scores = faces.map(({ score }) => score.toFixed(2)).join(", ");
  const found = faces.length === 1 ? `one face, score ${scores}` : `${faces.length} faces`;
  say("photo", `${shown(path)}, ${width} x ${height}, ${found}`);
  for (const { code, message } of problems) say("", `${code}: ${message}`);
  const refused = problems.find(({ blocking }) => blocking);
  if (refused !== undefined) {
    throw new DemoFailure(
      refused.code,
      refused.message,
      "Choose another photo with --photo: one face, from the front.",
    );
  }
}

async function writePictures(
  { out }: DemoOptions,
  reference: { readonly photo: Uint8Array; readonly face: FaceReportBody["faces"][number] },
  generations: readonly Generation[],
): Promise<void> {
  const images = generations.flatMap((generation) => generation.images);
  const portraits = images.map(({ data }) => Uint8Array.fromBase64(data ?? ""));
  for (const [index, { seed, identity_similarity: similarity }] of images.entries()) {
    const path = join(out, `portrait_${index + 1}_seed_${seed}.png`);
    await Deno.writeFile(path, portraits[index]!);
    const likeness = similarity === null ? "no face found" : similarity.toFixed(2);
    say("portrait", `${shown(path)}  seed ${seed}  identity similarity ${likeness}`);
  }
  const path = join(out, "contact_sheet.png");
  const { photo, face: { box } } = reference;
  await Deno.writeFile(path, await drawContactSheet({ photo, box }, portraits));
  say("contact sheet", shown(path));
}

/** Tells what a generation took, and of the first what made it. */
function tellWork({ model, usage, images, timings }: Generation, first: boolean): void {
  if (first) say("model", `${model}, ${usage.steps / images.length} steps`);
  const stages = Object.entries(timings).map(([stage, seconds]) => `${stage} ${seconds.toFixed(2)}`);
  say("seconds", stages.join(", "));
}

/** The whole demo, once the options are understood. */
async function run(options: DemoOptions, signal: AbortSignal): Promise<void> {
  if (Deno.env.get("BUNDLE")?.startsWith("s3:")) {
    throw new UsageError("BUNDLE: the demo, whose service calls nobody, takes a folder");
  }
  const photo = await readPhoto(options.photo);
  await makeOutFolder(options.out);
  say("service", "starting …");
  const started = performance.now();
  await using service = await startService(signal);
  const { address, jwt } = service;
  say("", `ready at ${address} after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  const access = {
    address,
    token: await signDevelopmentToken(jwt, { subject: "demo", expiresIn: "1h" }),
    signal,
  };
  const view = createProgressView(write, Deno.stdout.isTerminal());
  const perform = async () => {
    const report = await checkPhoto(access, photo);
    reportPhoto(options.photo, report);
    const { prompts, classNoun, count } = options;
    const generations: Generation[] = [];
    for (const [index, prompt] of prompts.entries()) {
      const seed = options.seed + index * count;
      say("prompt", `"${prompt}", ${classNoun}, ${count} from seed ${seed}`);
      const request = { ...options, prompt, seed };
      const generation = await generatePortraits(access, photo, request, view.show).finally(view.end);
      tellWork(generation, generations.length === 0);
      generations.push(generation);
    }
    await writePictures(options, { photo, face: report.faces[0]! }, generations);
  };
  // a service that dies tells more than the broken connection it leaves
  await Promise.race([perform().catch((error) => orDeath(error, service.died)), service.died]);
}

/** The reason of a broken connection, if the service's death is it; otherwise the error itself. */
async function orDeath(error: unknown, died: Promise<never>): Promise<never> {
  if (!(error instanceof TypeError)) throw error;
  const moment = new Promise<never>((_, reject) => setTimeout(reject, 1000, error));
  return await Promise.race([died, moment]);
}

/** Says what went wrong. */
function explain(error: unknown): number {
  if (error instanceof UsageError) {
    console.error(`${error.message}\n\n${usage}`);
    return 2;
  }
  if (error instanceof DemoFailure) {
    console.error(`\n${error.code}: ${error.message}\nWhat to do: ${error.remedy}`);
    for (const fact of error.facts) console.error(`  ${fact}`);
    return 1;
  }
  throw error;
}

/** @returns the exit code */
async function main(): Promise<number> {
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => interrupt.abort());
  }
  try {
    const options = parseDemoOptions(Deno.args, { repository, caller });
    if (options === "help") console.log(usage);
    else await run(options, interrupt.signal);
    return 0;
  } catch (error) {
    if (interrupt.signal.aborted) return 130;
    return explain(error);
  }
}

// signal listeners would keep the process alive
if (import.meta.main) Deno.exit(await main());
