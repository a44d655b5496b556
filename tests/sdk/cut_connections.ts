/** What every example must show: one generation, paid once, over connections that break. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { startCuttingProxy } from "./cutting_proxy.ts";
import type { LiveService } from "./live_service.ts";

/** The repository's root. */
export const repository: string = fileURLToPath(new URL("../..", import.meta.url));
/** The sample face. */
export const photo: string = join(repository, "tests/fixtures/face.png");

/** A program that is run as a user would. */
export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Record<string, string>;
}

const decoder = new TextDecoder();

/**
 * Runs a program to its end.
 *
 * @param program what to run
 * @returns what it wrote to standard output
 * @throws with all it wrote when it fails
 */
export async function run({ command, args, env = {} }: Program): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args: [...args],
    cwd: repository,
    env,
    stdin: "null",
  }).output();
  const [output, errors] = [decoder.decode(stdout), decoder.decode(stderr)];
  equal(code, 0, `${command} ended with ${code}:\n${output}\n${errors}`);
  return output;
}

/**
 * Keeps the service busy, so that what is asked for next waits: a small model could be done before anybody watches.
 *
 * @returns ends it
 */
async function occupy({ address, tokenFor }: LiveService): Promise<() => Promise<void>> {
  const headers = { Authorization: `Bearer ${await tokenFor("occupant")}`, Prefer: "respond-async" };
  const body = new FormData();
  body.set("reference_images", new Blob([await Deno.readFile(photo)]));
  const fields = { prompt: "a smile", class_noun: "woman", num_images: "8", num_inference_steps: "100" };
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  const response = await fetch(`${address}/v1/generations`, { method: "POST", headers, body });
  equal(response.status, 202);
  const { id } = await response.json();
  return async () => {
    const canceled = await fetch(`${address}/v1/generations/${id}/cancel`, { method: "POST", headers });
    await canceled.body?.cancel();
    equal(canceled.status, 200, "it was still running");
  };
}

/** Denoising steps as the program told them. */
function toldSteps(output: string): readonly (readonly number[])[] {
  return [...output.matchAll(/^denoise (\d+) (\d+)$/gm)].map((
    [, step, steps],
  ) => [Number(step), Number(steps)]);
}

/**
 * Has an example make a portrait through a proxy that cuts the answer to its first request and its first stream, and
 * answers in the service's place after each.
 *
 * @param service to call
 * @param account whose token it gets; none else uses it
 * @param program takes photo, prompt, class noun and folder, and IDADAPTER_URL and IDADAPTER_TOKEN
 */
export async function expectPortraitOverCutConnections(
  service: LiveService,
  account: string,
  program: Program,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const token = await service.tokenFor(account);
  await using proxy = startCuttingProxy(service.address);
  const release = await occupy(service);
  const released = proxy.watched.then(release);
  const output = await run({
    ...program,
    args: [...program.args, photo, "a smile", "woman", folder],
    env: { ...program.env, IDADAPTER_URL: proxy.address, IDADAPTER_TOKEN: token },
  }).catch(async (failure) => {
    // it may have failed before it watched; canceling twice changes nothing
    await release();
    throw failure;
  });

  await released;
  const failed = ["answer", "answer again", "stream", "stream again", "look", "look again"];
  deepEqual(proxy.cuts, failed, "all of them failed");
  const asked = proxy.requests.filter(({ method, path }) => method === "POST" && path === "/v1/generations");
  const keys = asked.map(({ headers }) => headers.get("idempotency-key") ?? "");
  equal(keys.length, 3, "asked again after the answer was cut, and after a proxy's 504");
  equal(new Set(keys).size, 1);
  match(keys[0]!, /^[0-9a-f-]{36}$/i);
  const watched = proxy.requests.filter(({ path }) => path.endsWith("/events"));
  const [first, ...others] = watched.map(({ headers }) => headers.get("last-event-id"));
  equal(first, undefined);
  equal(
    new Set(others).size,
    1,
    "taken up again after the stream was cut, and once more if a 502 came first",
  );
  ok(Number(others[0]) >= 4, `after the last event that came: ${others[0]}`);
  const looks = proxy.requests.filter(({ path }) => /^\/v1\/generations\/[^/]+$/.test(path));
  ok(looks.length >= 3, "looked again after a 503 and a 502 of a proxy");
  const waited = looks[1]!.at - looks[0]!.at;
  ok(waited > 240, `a \`Retry-After\` that is a date leaves the client's own delay: ${waited} ms`);

  // nothing is told twice; what happened while nobody listened is told only as long as the generation runs
  const steps = toldSteps(output).map(([step]) => step!);
  ok(steps.length >= 2, output);
  deepEqual(steps, [...new Set(steps)].sort((one, other) => one - other));

  const [portrait, ...more] = [...Deno.readDirSync(folder)].map(({ name }) => name);
  deepEqual(more, []);
  match(portrait ?? "", /^portrait_\d+\.png$/);
  const { format, width } = await sharp(join(folder, portrait!)).metadata();
  deepEqual([format, width], ["png", 128]);
  await Deno.remove(folder, { recursive: true });

  const usage = await fetch(`${service.address}/v1/usage`, { headers: { Authorization: `Bearer ${token}` } });
  const { total: charged } = await usage.json();
  deepEqual([charged.generations, charged.images], [1, 1], "made and charged once");
}
