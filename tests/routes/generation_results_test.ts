/** A generation after it was asked for: respond-async, polling, events, images, cancel, delete; the pipeline is scripted. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  FailedGenerationSchema,
  GenerationPreviewSchema,
  GenerationSchema,
  GenerationStateSchema,
  PendingGenerationSchema,
} from "../../openapi/generation.ts";
import type { GenerateOptions } from "../../pipeline/inference.ts";
import { type GenerateInput, type GenerateOutput, PipelineError } from "../../pipeline/protocol.ts";
import { FINAL_EVENT } from "../../jobs/generation_record.ts";
import { delay } from "../delay.ts";
import { readPreferences } from "../../routes/prefer.ts";
import { expectProblem } from "./expect_problem.ts";
import { readEvents } from "./read_events.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asJson, startService, type TestService, type TestServiceOptions } from "./test_service.ts";

const least = {
  reference_images: [Uint8Array.of(1, 2, 3).toBase64()],
  prompt: "a smile",
  class_noun: "woman",
};

/** A generation that a test drives. */
interface Held {
  readonly input: GenerateInput;
  readonly options: GenerateOptions;
  readonly end: () => void;
}

/** Starts a service whose generations wait for the test. */
async function startHeld(
  options: Partial<TestServiceOptions> = {},
): Promise<{ service: TestService; held: Held[] }> {
  const held: Held[] = [];
  const inference = scriptInference({
    generate: (input, given = {}) => {
      const { promise, resolve, reject } = Promise.withResolvers<GenerateOutput>();
      given.signal?.addEventListener("abort", () => reject(new PipelineError("canceled", "canceled")));
      held.push({ input, options: given, end: () => resolve(outputOf(input)) });
      given.onEvent?.({ type: "started" });
      return promise;
    },
  });
  const service = await startService({ model: () => ({ manifest: testManifest, inference }), ...options });
  return { service, held };
}

/** Asks without waiting; gives the generation's address. */
async function submit(
  { service, held }: { service: TestService; held: Held[] },
  changes: object = {},
  prefer = "respond-async",
): Promise<string> {
  const before = held.length;
  const request = asJson({ ...least, ...changes });
  const response = await service.call("/v1/generations", {
    ...request,
    headers: { ...request.headers as Record<string, string>, Prefer: prefer },
  });
  equal(response.status, 202);
  equal(response.headers.get("Preference-Applied"), "respond-async");
  match(response.headers.get("Retry-After") ?? "", /^\d+$/);
  const generation = PendingGenerationSchema.parse(await response.json());
  const location = response.headers.get("Location");
  equal(location, `/v1/generations/${generation.id}`);
  while (held.length === before) await delay(1);
  return location;
}

/** Waits until a generation is in a final state. */
async function finish(service: TestService, location: string): Promise<void> {
  await (await service.call(`${location}/events`)).text();
}

Deno.test("respond-async: 202, then polling until the result is there, its images at their addresses", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held }, { num_images: 2, seed: 5 });
  const [generation] = held as [Held];
  generation.options.onEvent?.({ type: "progress", progress: { stage: "denoise", step: 3, steps: 17 } });
  const early = await service.call(location);
  match(early.headers.get("Retry-After") ?? "", /^\d+$/);
  const pending = PendingGenerationSchema.parse(await early.json());
  deepEqual([pending.status, pending.progress], ["running", { stage: "denoise", step: 3, steps: 17 }]);
  await expectProblem(await service.call(`${location}/images/0`), "image_not_found");

  generation.end();
  await finish(service, location);
  const late = await service.call(location);
  equal(late.headers.get("Retry-After"), null);
  const { images, usage } = GenerationSchema.parse(await late.json());
  deepEqual(images.map(({ index, seed, url, data }) => [index, seed, url, data]), [
    [0, 5, `${location}/images/0`, undefined],
    [1, 6, `${location}/images/1`, undefined],
  ]);
  deepEqual(usage, { images: 2, steps: 34 });
  for (const { index, url } of images) {
    const image = await service.call(url);
    equal(image.headers.get("Content-Type"), "image/png");
    equal(image.headers.get("Cache-Control"), "private, no-cache");
    deepEqual([...await image.bytes()], [1, 2, index]);
  }
  for (const index of ["2", "-1", "00", "x"]) {
    await expectProblem(await service.call(`${location}/images/${index}`), "image_not_found");
  }
});

Deno.test("an image has a strong ETag that saves fetching it again", async () => {
  const origin = "https://app.example";
  const { service, held } = await startHeld({ corsOrigins: [origin] });
  await using _ = service;
  const location = await submit({ service, held }, { num_images: 2 });
  held[0]!.end();
  await finish(service, location);
  const [first, second] = await Promise.all(
    [0, 1].map((index) => service.call(`${location}/images/${index}`)),
  ) as [Response, Response];
  await Promise.all([first.bytes(), second.bytes()]);
  const tag = first.headers.get("ETag") ?? "";
  match(tag, /^"[^"]+"$/);
  ok(tag !== second.headers.get("ETag"));
  const again = await service.call(`${location}/images/0`, {
    headers: { "If-None-Match": `"other", ${tag}`, "Origin": origin },
  });
  equal(again.status, 304);
  equal((await again.bytes()).length, 0);
  equal(again.headers.get("ETag"), tag);
  equal(
    again.headers.get("Access-Control-Allow-Origin"),
    origin,
    "else a page of another origin sees a network error",
  );
  for (const name of ["Access-Control-Expose-Headers", "X-Request-Id", "RateLimit", "RateLimit-Policy"]) {
    ok(again.headers.has(name), name);
  }
});

Deno.test("HEAD of events ends with its headers, and nobody watches on", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held });
  const { generations } = service;
  const watch = generations.watch.bind(generations);
  const signals: (AbortSignal | undefined)[] = [];
  generations.watch = (account, id, options) => {
    signals.push(options?.signal);
    return watch(account, id, options);
  };
  const head = async () => {
    const answer = await service.call(`${location}/events`, { method: "HEAD" });
    deepEqual([answer.status, answer.headers.get("Content-Type")], [200, "text/event-stream"]);
    await delay(20);
    equal(signals.at(-1)?.aborted, true);
  };
  await head();
  held[0]!.end();
  await finish(service, location);
  await head();
});

Deno.test("wait: the result when it comes in time, the problem too, else 202", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const request = asJson(least);
  const headers = { ...request.headers as Record<string, string>, Prefer: "respond-async, wait=60" };
  const waiting = service.call("/v1/generations", { ...request, headers });
  while (held.length === 0) await delay(1);
  held[0]!.end();
  const response = await waiting;
  equal(response.status, 200);
  equal(GenerationSchema.parse(await response.json()).images[0]?.data, Uint8Array.of(1, 2, 0).toBase64());

  const left = service.call("/v1/generations", { ...request, headers });
  while (held.length === 1) await delay(1);
  await service.drain(0);
  const later = await left;
  equal(later.status, 202, "it goes on without this process");
  equal(PendingGenerationSchema.parse(await later.json()).status, "queued");
});

Deno.test("who has been told where the generation is watches it no more, and holds up no stop", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const watch = service.generations.watch.bind(service.generations);
  const signals: (AbortSignal | undefined)[] = [];
  service.generations.watch = (account, id, watching) => {
    signals.push(watching?.signal);
    return watch(account, id, watching);
  };
  await submit({ service, held }, {}, "respond-async, wait=1");
  deepEqual(signals.map((signal) => signal?.aborted), [true]);
});

/** What a query throws when the database is away. */
const away = () => Promise.reject(Object.assign(new Error("refused"), { code: "ECONNREFUSED" }));

Deno.test("who was taken on is told where, also when the database goes away after it", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const find = service.generations.find;
  service.generations.find = away;
  const location = await submit({ service, held });
  const request = asJson(least);
  const headers = { ...request.headers as Record<string, string>, Prefer: "respond-async, wait=60" };
  const waiting = service.call("/v1/generations", { ...request, headers });
  while (held.length === 1) await delay(1);
  held[1]!.end();
  const response = await waiting;
  equal(response.status, 200, "its end was heard of");
  equal(GenerationSchema.parse(await response.json()).images.length, 1);
  service.generations.find = find;
  equal((await (await service.call(location)).json()).status, "running");
});

Deno.test("a commit whose answer is lost costs nothing, unless a key can ask for it again", async () => {
  const { service } = await startHeld();
  await using _ = service;
  const { store } = service.room;
  let losing = false;
  const transaction: typeof store.transaction = async (work) => {
    const result = await store.transaction(work);
    return losing ? await away() : result;
  };
  Object.assign(service.room, { store: Object.create(store, { transaction: { value: transaction } }) });
  const states = async (sub: string) =>
    (await store.queries.selectFrom("generations").select("state").where("account_id", "=", sub).execute())
      .map(({ state }) => state);
  const ask = async (sub: string, more: Record<string, string> = {}) => {
    const request = asJson(least);
    const headers = { ...request.headers as Record<string, string>, ...more };
    const token = await service.sign({ sub });
    return await service.call("/v1/generations", {
      ...request,
      headers: { ...headers, Prefer: "respond-async", Authorization: `Bearer ${token}` },
    });
  };
  losing = true;
  await expectProblem(await ask("without"), "store_unavailable");
  await expectProblem(await ask("with", { "Idempotency-Key": "k" }), "store_unavailable");
  losing = false;
  while ((await states("without"))[0] !== "canceled") await delay(5);
  const again = await ask("with", { "Idempotency-Key": "k" });
  equal(again.status, 202);
  await again.body?.cancel();
  const [state, ...more] = await states("with");
  ok(state === "queued" || state === "running", state);
  deepEqual(more, []);
});

Deno.test("events are replayed from the start, or taken up after Last-Event-ID; after the last there is nothing", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held });
  held[0]!.options.onEvent?.({ type: "progress", progress: { stage: "denoise", step: 1, steps: 17 } });
  const watch = (last?: string) =>
    service.call(`${location}/events`, last === undefined ? {} : { headers: { "Last-Event-ID": last } });
  const live = readEvents(await watch());
  const resumed = readEvents(await watch("2"));
  held[0]!.end();
  deepEqual((await live).map(({ event, id }) => [event, id]), [
    ["queued", "1"],
    ["started", "2"],
    ["progress", "3"],
    ["image", "4"],
    ["succeeded", String(FINAL_EVENT)],
  ]);
  deepEqual((await resumed).map(({ id }) => id), ["3", "4", String(FINAL_EVENT)]);
  const replayed = await readEvents(await watch("not ours"));
  equal(replayed.length, 4);
  equal(PendingGenerationSchema.parse(JSON.parse(replayed[0]!.data)).status, "queued");
  const over = await watch(String(FINAL_EVENT));
  equal(over.status, 204);
  await over.body?.cancel();
});

Deno.test("previews reach whoever asked for them", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held }, { preview_interval: 4 });
  equal(held[0]!.options.previewInterval, 4);
  const watching = service.call(`${location}/events`);
  const { body } = await watching;
  const reader = body!.pipeThrough(new TextDecoderStream()).getReader();
  held[0]!.options.onEvent?.({
    type: "preview",
    preview: {
      index: 0,
      step: 4,
      steps: 17,
      contentType: "image/jpeg",
      width: 32,
      height: 32,
      data: Uint8Array.of(9),
    },
  });
  let text = "";
  while (!/event: preview\n.*\n.*\n\n/.test(text)) text += (await reader.read()).value ?? "";
  const data = /event: preview\ndata: (.*)/.exec(text)?.[1] ?? "";
  const preview = GenerationPreviewSchema.parse(JSON.parse(data));
  deepEqual([preview.step, preview.data], [4, Uint8Array.of(9).toBase64()]);
  held[0]!.end();
  while (!(await reader.read()).done);
});

Deno.test("a portrait is told when it is paid: who cancels before has none", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held }, { num_images: 2 });
  const [image] = outputOf(held[0]!.input).images;
  const watched = readEvents(await service.call(`${location}/events`));
  held[0]!.options.onEvent?.({ type: "image", image: image! });
  const state = GenerationStateSchema.parse(await (await service.call(location)).json());
  ok(state.status === "running");
  await expectProblem(await service.call(`${location}/images/0`), "image_not_found");
  await (await service.call(`${location}/cancel`, { method: "POST" })).body?.cancel();
  deepEqual((await watched).map(({ event }) => event), ["queued", "started", "failed"]);
  const paid = await submit({ service, held });
  held[1]!.options.onEvent?.({ type: "image", image: outputOf(held[1]!.input).images[0]! });
  held[1]!.end();
  const events = await readEvents(await service.call(`${paid}/events`));
  deepEqual(events.map(({ event }) => event), ["queued", "started", "image", "succeeded"]);
});

Deno.test("hanging up on a stream that was asked for with respond-async cancels nothing", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const request = asJson(least);
  const hangUp = new AbortController();
  const response = await service.call("/v1/generations", {
    ...request,
    headers: {
      ...request.headers as Record<string, string>,
      Accept: "text/event-stream",
      Prefer: "respond-async",
    },
    signal: hangUp.signal,
  });
  equal(response.headers.get("Preference-Applied"), "respond-async");
  const location = response.headers.get("Content-Location") ?? "";
  hangUp.abort();
  await response.text().catch(() => {});
  const resumed = service.call(`${location}/events`, { headers: { "Last-Event-ID": "1" } });
  const rest = readEvents(await resumed);
  equal(held[0]!.options.signal?.aborted, false);
  held[0]!.end();
  deepEqual((await rest).map(({ event }) => event), ["started", "image", "succeeded"]);
});

Deno.test("cancel: the generation ends, its watchers hear it, and what is finished stays", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held });
  const watched = readEvents(await service.call(`${location}/events`));
  const cancel = () => service.call(`${location}/cancel`, { method: "POST" });
  const response = await cancel();
  equal(response.status, 200);
  const canceled = FailedGenerationSchema.parse(await response.json());
  deepEqual([canceled.status, canceled.error.code], ["canceled", "canceled"]);
  equal(held[0]!.options.signal?.aborted, true);
  equal((await watched).at(-1)?.event, "failed");
  const again = await cancel();
  equal(GenerationStateSchema.parse(await again.json()).status, "canceled");

  const finished = await submit({ service, held });
  held[1]!.end();
  await finish(service, finished);
  await expectProblem(await service.call(`${finished}/cancel`, { method: "POST" }), "generation_finished");
});

Deno.test("whoever waits for the JSON of a generation that is ended is told why", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const waiting = service.call("/v1/generations", asJson(least));
  while (held.length === 0) await delay(1);
  await service.drain(0);
  await expectProblem(await waiting, "shutting_down");
});

Deno.test("delete: nothing is left", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held });
  held[0]!.end();
  await finish(service, location);
  const response = await service.call(location, { method: "DELETE" });
  equal(response.status, 204);
  for (const path of ["", "/events", "/images/0"]) {
    await expectProblem(await service.call(`${location}${path}`), "generation_not_found");
  }
  await expectProblem(await service.call(`${location}/cancel`, { method: "POST" }), "generation_not_found");
  await expectProblem(await service.call(location, { method: "DELETE" }), "generation_not_found");
  equal(service.generations.size.generations, 0);
});

Deno.test("another account's generation does not exist, and a token that may only write cannot read", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held });
  held[0]!.end();
  await finish(service, location);
  const bob = { Authorization: `Bearer ${await service.sign({ sub: "bob" })}` };
  for (
    const [method, path] of [["GET", ""], ["GET", "/events"], ["GET", "/images/0"], ["POST", "/cancel"], [
      "DELETE",
      "",
    ]]
  ) {
    const response = await service.call(`${location}${path}`, { method: method!, headers: bob });
    await expectProblem(response, "generation_not_found");
  }
  const writer = { Authorization: `Bearer ${await service.sign({ scope: "generations:write" })}` };
  await expectProblem(await service.call(location, { headers: writer }), "scope_missing");
  const reader = { Authorization: `Bearer ${await service.sign({ scope: "generations:read" })}` };
  await expectProblem(await service.call(location, { method: "DELETE", headers: reader }), "scope_missing");
  const still = await service.call(location, { headers: reader });
  equal(still.status, 200);
  await still.body?.cancel();
});

Deno.test("a full queue is a 429 that says when to come back, and is counted", async () => {
  const codes: string[] = [];
  await using service = await startService({
    model: () => ({ manifest: testManifest, inference: scriptInference() }),
    settings: { mostQueued: -1 },
    onProblem: (code) => codes.push(code),
  });
  const response = await service.call("/v1/generations", asJson(least));
  equal(response.headers.get("Retry-After"), "1");
  await expectProblem(response, "queue_full");
  deepEqual(codes, ["queue_full"]);
  equal(service.generations.size.generations, 0);
});

Deno.test("a draining service refuses new work and is not ready, but still tells of the old", async () => {
  const { service, held } = await startHeld();
  await using _ = service;
  const location = await submit({ service, held });
  const drained = service.drain(60_000);
  await expectProblem(await service.call("/v1/generations", asJson(least)), "shutting_down");
  await expectProblem(await service.call("/readyz"), "shutting_down");
  const health = await service.call("/healthz");
  equal(health.status, 200);
  await health.body?.cancel();
  held[0]!.end();
  await drained;
  equal(GenerationStateSchema.parse(await (await service.call(location)).json()).status, "succeeded");
});

Deno.test("Prefer is read as RFC 7240 writes it", () => {
  deepEqual(readPreferences(), { respondAsync: false, waitSeconds: 0 });
  deepEqual(readPreferences("respond-async"), { respondAsync: true, waitSeconds: 0 });
  deepEqual(readPreferences('foo; bar, Respond-Async, wait="10"'), { respondAsync: true, waitSeconds: 10 });
  deepEqual(readPreferences("wait=5, wait=9"), { respondAsync: false, waitSeconds: 5 });
  deepEqual(readPreferences("respond-async;x=1, wait=999999"), { respondAsync: true, waitSeconds: 300 });
  deepEqual(readPreferences("respond-async-not, wait=-1, wait=, ,"), { respondAsync: false, waitSeconds: 0 });
  deepEqual(readPreferences('wait = "7" ; x = y'), { respondAsync: false, waitSeconds: 7 });
  // a pattern that goes back over the spaces would take hours
  deepEqual(readPreferences(`a=${" ".repeat(30_000)}""x, wait=3`), { respondAsync: false, waitSeconds: 3 });
});
