/** `Idempotency-Key` over HTTP; the pipeline is scripted. */

import { deepEqual, equal, notEqual } from "node:assert/strict";
import { GenerationSchema, PendingGenerationSchema } from "../../openapi/generation.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { delay } from "../delay.ts";
import { expectProblem } from "./expect_problem.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asForm, asJson, startService, type TestService } from "./test_service.ts";

const least = { reference_images: [Uint8Array.of(1).toBase64()], prompt: "a smile", class_noun: "woman" };

/** Starts a service that counts runs and waits for `release` before each ends. */
async function start(release: Promise<void> = Promise.resolve()) {
  const runs: { aborted: boolean }[] = [];
  const inference = scriptInference({
    generate: async (input, options) => {
      const run = { aborted: false };
      runs.push(run);
      if (input.prompt === "nobody") throw new PipelineError("face_not_found", "No face.", { image: 0 });
      options?.onEvent?.({ type: "progress", progress: { stage: "denoise", step: 0, steps: 1 } });
      await release;
      run.aborted = options!.signal!.aborted;
      return outputOf(input);
    },
  });
  const service = await startService({ model: () => ({ manifest: testManifest, inference }) });
  return { service, runs };
}

function ask(service: TestService, request: RequestInit, key: string, more: Record<string, string> = {}) {
  const headers = { ...request.headers as Record<string, string>, "Idempotency-Key": key, ...more };
  return service.call("/v1/generations", { ...request, headers });
}

Deno.test("the same request with the same key is answered with the first one's result, and charged once", async () => {
  const { service, runs } = await start();
  await using _ = service;
  const first = GenerationSchema.parse(await (await ask(service, asJson(least), "key-1")).json());
  const before = await (await service.call("/v1/account")).json();
  const again = GenerationSchema.parse(await (await ask(service, asJson(least), '"key-1"')).json());
  deepEqual(again, first);
  deepEqual(await (await service.call("/v1/account")).json(), before);
  equal(runs.length, 1);
  const other = GenerationSchema.parse(await (await ask(service, asJson(least), "key-2")).json());
  notEqual(other.id, first.id);
  await expectProblem(
    await ask(service, asJson({ ...least, prompt: "another" }), "key-1"),
    "idempotency_key_reused",
  );
  equal(runs.length, 2);
});

Deno.test("a form is the same form, whatever boundary its library draws", async () => {
  const { service, runs } = await start();
  await using _ = service;
  const form = () =>
    asForm({ reference_images: Uint8Array.of(1, 45, 45, 2), prompt: "a smile", class_noun: "woman" });
  const answers = [await ask(service, form(), "form"), await ask(service, form(), "form")];
  const ids = await Promise.all(
    answers.map(async (answer) => GenerationSchema.parse(await answer.json()).id),
  );
  equal(ids[0], ids[1]);
  equal(runs.length, 1);
  const changed = asForm({ reference_images: Uint8Array.of(2), prompt: "a smile", class_noun: "woman" });
  await expectProblem(await ask(service, changed, "form"), "idempotency_key_reused");
});

Deno.test("a boundary that the RFC does not allow is no boundary, however much of it the body holds", async () => {
  const { service, runs } = await start();
  await using _ = service;
  const boundary = `${"-".repeat(8000)}x`;
  const request = {
    method: "POST",
    headers: { "Content-Type": `multipart/form-data; boundary=${boundary}` },
    body: "-".repeat(2_000_000),
  };
  // compared at each of its places this takes minutes
  await expectProblem(await ask(service, request, "dashes"), "multipart_malformed");
  equal(runs.length, 0);
});

Deno.test("retries while it runs wait for the same generation; hanging up ends nothing", async () => {
  const release = Promise.withResolvers<void>();
  const { service, runs } = await start(release.promise);
  await using _ = service;
  const hangUp = new AbortController();
  const request = asJson(least);
  const lost = service.call("/v1/generations", {
    ...request,
    headers: { ...request.headers as Record<string, string>, "Idempotency-Key": "k" },
    signal: hangUp.signal,
  }).then((response) => response.text()).catch((error: Error) => error.name);
  while (runs.length === 0) await delay(1);
  hangUp.abort();
  equal(await lost, "AbortError");
  const waiting = [1, 2, 3].map(() => ask(service, asJson(least), "k"));
  const pending = await ask(service, asJson(least), "k", { Prefer: "respond-async" });
  equal(pending.status, 202);
  const { id } = PendingGenerationSchema.parse(await pending.json());
  release.resolve();
  for (const answer of await Promise.all(waiting)) equal(GenerationSchema.parse(await answer.json()).id, id);
  equal(runs.length, 1);
  equal(runs[0]!.aborted, false);
});

Deno.test("a failure is remembered as a failure, a refusal is not remembered at all", async () => {
  const { service, runs } = await start();
  await using _ = service;
  const failing = asJson({ ...least, prompt: "nobody" });
  await expectProblem(await ask(service, failing, "f"), "face_not_found");
  await expectProblem(await ask(service, failing, "f"), "face_not_found");
  equal(runs.length, 1);
  await expectProblem(await ask(service, asJson({ ...least, num_images: 99 }), "r"), "out_of_range");
  const mended = await ask(service, asJson(least), "r");
  equal(mended.status, 200);
  await mended.body?.cancel();
});

Deno.test("a key is printable and not endless", async () => {
  const { service } = await start();
  await using _ = service;
  for (const key of ["", '""', "x".repeat(256), "two words", "tab\there", '"open']) {
    await expectProblem(await ask(service, asJson(least), key), "idempotency_key_invalid");
  }
});

Deno.test("what a key stands for is gone when it was erased", async () => {
  const { service } = await start();
  await using _ = service;
  const { id } = GenerationSchema.parse(await (await ask(service, asJson(least), "gone")).json());
  const erased = await service.call(`/v1/generations/${id}`, { method: "DELETE" });
  equal(erased.status, 204);
  await expectProblem(await ask(service, asJson(least), "gone"), "generation_not_found");
});
