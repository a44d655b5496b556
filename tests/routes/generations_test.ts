/** What `POST /v1/generations` makes of a request and of the pipeline's answer; the pipeline itself is scripted. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  GenerationImageSchema,
  GenerationProgressSchema,
  GenerationSchema,
} from "../../openapi/generation.ts";
import { ProblemSchema } from "../../openapi/problem.ts";
import type { Inference } from "../../pipeline/inference.ts";
import {
  type GenerateInput,
  type GenerateProgress,
  PipelineError,
  type PipelineErrorCode,
} from "../../pipeline/protocol.ts";
import { FINAL_EVENT } from "../../jobs/generation_record.ts";
import { delay } from "../delay.ts";
import { expectProblem } from "./expect_problem.ts";
import { readEvents } from "./read_events.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asForm, asJson, startService, type TestService } from "./test_service.ts";

const photo = Uint8Array.from({ length: 300 }, (_, i) => i % 256);
const least = { reference_images: [photo.toBase64()], prompt: "a happy woman", class_noun: "woman" };

/** Starts a service that keeps what the pipeline was asked. */
async function startRecording(seed = 7): Promise<{ service: TestService; inputs: GenerateInput[] }> {
  const inputs: GenerateInput[] = [];
  const inference = scriptInference({
    generate: (input, options) => {
      inputs.push(input);
      const tell = (progress: GenerateProgress) => options?.onEvent?.({ type: "progress", progress });
      options?.onEvent?.({ type: "started" });
      tell({ stage: "references", step: 0, steps: 0 });
      for (let step = 1; step <= 3; step++) tell({ stage: "denoise", step, steps: 3 });
      const output = outputOf(input);
      for (const image of output.images) options?.onEvent?.({ type: "image", image });
      return Promise.resolve(output);
    },
  });
  const service = await startService({
    model: () => ({ manifest: testManifest, inference }),
    randomSeed: () => seed,
  });
  return { service, inputs };
}

function startWith(generate: Inference["generate"]) {
  return startService({
    model: () => ({ manifest: testManifest, inference: scriptInference({ generate }) }),
  });
}

Deno.test("the least request gets the model's defaults and a drawn seed, which is echoed", async () => {
  const { service, inputs } = await startRecording(7);
  await using _ = service;
  const response = await service.call("/v1/generations", asJson(least));
  equal(response.status, 200);
  equal(response.headers.get("Cache-Control"), "no-store");
  const generation = GenerationSchema.parse(await response.json());
  const [input] = inputs;
  ok(input);
  deepEqual({ ...input, referenceImages: input.referenceImages.map((bytes) => [...bytes]) }, {
    referenceImages: [[...photo]],
    prompt: "a happy woman",
    classNoun: "woman",
    negativePrompt: "a painted face",
    numImages: 1,
    numInferenceSteps: 17,
    guidanceScale: 2.5,
    identityGuidanceScale: 1.25,
    earlyGuidance: { untilTimestep: 800, scale: 3.5, identityScale: 1.25 },
    guidanceRescale: 0.25,
    identityStrength: 0.9,
    poseVariation: 12,
    scheduler: "euler",
    cacheInterval: 1,
    seed: 7,
    outputFormat: "png",
  });
  match(generation.id, /^gen_[0-9a-f-]{36}$/);
  equal(generation.status, "succeeded");
  equal(generation.model, "test-model");
  deepEqual(generation.images, [{
    index: 0,
    seed: 7,
    content_type: "image/png",
    width: 64,
    height: 64,
    url: `/v1/generations/${generation.id}/images/0`,
    data: Uint8Array.of(1, 2, 0).toBase64(),
    identity_similarity: 0.1235,
  }]);
  deepEqual(generation.usage, { images: 1, steps: 17 });
  ok(generation.timings.total >= 0.68, "what the pipeline says, and the wait before it");
});

Deno.test("null stands for the default, as leaving the field out does", async () => {
  const { service, inputs } = await startRecording();
  await using _ = service;
  const nulls = Object.fromEntries(
    [
      "negative_prompt",
      "num_images",
      "num_inference_steps",
      "guidance_scale",
      "identity_guidance_scale",
      "early_guidance_scale",
      "early_identity_guidance_scale",
      "early_guidance_until",
      "guidance_rescale",
      "identity_strength",
      "pose_variation",
      "cache_interval",
      "scheduler",
    ]
      .concat("seed", "output_format", "model").map((name) => [name, null]),
  );
  for (const body of [least, { ...least, ...nulls }]) {
    const response = await service.call("/v1/generations", asJson(body));
    equal(response.status, 200, await response.text());
  }
  deepEqual(inputs[0], inputs[1]);
});

Deno.test("the model's negative prompt is for photos, and gives way to the caller's, also to an empty one", async () => {
  const { service, inputs } = await startRecording();
  await using _ = service;
  const negativePrompts = [
    [{ prompt: "a happy woman" }, "a painted face"],
    [{ prompt: "a Cartoon, of a happy woman" }, ""],
    [{ prompt: "a cartoonist" }, "a painted face"],
    [{ prompt: "a sketch", negative_prompt: "hat" }, "hat"],
    [{ prompt: "a happy woman", negative_prompt: "hat" }, "hat"],
    [{ prompt: "a happy woman", negative_prompt: "" }, ""],
  ] as const;
  for (const [fields] of negativePrompts) {
    const response = await service.call("/v1/generations", asJson({ ...least, ...fields }));
    equal(response.status, 200, await response.text());
  }
  deepEqual(inputs.map((input) => input.negativePrompt), negativePrompts.map(([, expected]) => expected));
});

Deno.test("JSON and multipart with the same fields ask for the same", async () => {
  const { service, inputs } = await startRecording();
  await using _ = service;
  const second = Uint8Array.of(9, 8, 7);
  const options = {
    prompt: "a sad man, “quoted” — and ünïcode 👩‍🎨",
    class_noun: "man",
    negative_prompt: "hat",
    num_images: 2,
    num_inference_steps: 5,
    guidance_scale: 1.5e0,
    identity_guidance_scale: 0.5,
    early_guidance_scale: 4,
    early_identity_guidance_scale: 0,
    early_guidance_until: 900.5,
    guidance_rescale: 0.7,
    identity_strength: 0,
    pose_variation: 20,
    cache_interval: 3,
    scheduler: "ddim",
    seed: 4_294_967_287,
    output_format: "webp",
    model: "test-model",
  };
  const texts = Object.fromEntries(Object.entries(options).map(([name, value]) => [name, String(value)]));
  const dataUrl = `data:image/jpeg;base64,${second.toBase64()}`;
  const requests = [
    asJson({ reference_images: [photo.toBase64(), dataUrl], ...options }),
    asForm({ reference_images: [photo, second], ...texts }),
  ];
  for (const request of requests) {
    const response = await service.call("/v1/generations", request);
    const generation = GenerationSchema.parse(await response.json());
    deepEqual(generation.images.map((image) => image.seed), [4_294_967_287, 4_294_967_288]);
    equal(generation.images[1]?.identity_similarity, null);
    equal(generation.images[1]?.content_type, "image/webp");
    deepEqual(generation.usage, { images: 2, steps: 10 });
  }
  deepEqual(inputs[0]?.referenceImages.map((bytes) => [...bytes]), [[...photo], [...second]]);
  deepEqual(inputs[1], inputs[0]);
  equal(inputs[0]?.prompt, options.prompt);
  equal(inputs[0]?.cacheInterval, 3);
  deepEqual(inputs[0]?.earlyGuidance, { untilTimestep: 900.5, scale: 4, identityScale: 0 });
});

Deno.test("a scale of the caller's own holds at all steps, unless the first ones' is given too", async () => {
  const { service, inputs } = await startRecording();
  await using _ = service;
  const asked: [Record<string, number>, { scale: number; identityScale: number }][] = [
    [{ guidance_scale: 6 }, { scale: 6, identityScale: 1.25 }],
    [{ identity_guidance_scale: 2 }, { scale: 3.5, identityScale: 2 }],
    [{ guidance_scale: 6, early_guidance_scale: 1 }, { scale: 1, identityScale: 1.25 }],
    [{ early_identity_guidance_scale: 0 }, { scale: 3.5, identityScale: 0 }],
  ];
  for (const [fields, expected] of asked) {
    const response = await service.call("/v1/generations", asJson({ ...least, ...fields }));
    equal(response.status, 200, await response.text());
    deepEqual(inputs.at(-1)?.earlyGuidance, { untilTimestep: 800, ...expected }, JSON.stringify(fields));
  }
});

Deno.test("an event stream tells progress in order and ends with the same answer", async () => {
  const { service } = await startRecording();
  await using _ = service;
  const request = asJson(least);
  const response = await service.call("/v1/generations", {
    ...request,
    headers: { ...request.headers as Record<string, string>, Accept: "text/event-stream" },
  });
  equal(response.status, 200);
  equal(response.headers.get("Content-Type"), "text/event-stream");
  equal(response.headers.get("Cache-Control"), "no-store");
  const events = await readEvents(response);
  deepEqual(
    events.map(({ event }) => event),
    ["queued", "started", "progress", "progress", "progress", "progress", "image", "succeeded"],
  );
  deepEqual(events.map(({ id }) => id), ["1", "2", "3", "4", "5", "6", "7", String(FINAL_EVENT)]);
  const progress = events.slice(2, 6).map(({ data }): GenerateProgress =>
    GenerationProgressSchema.parse(JSON.parse(data))
  );
  deepEqual(progress.map(({ step }) => step), [0, 1, 2, 3]);
  equal(GenerationImageSchema.parse(JSON.parse(events[6]!.data)).data, Uint8Array.of(1, 2, 0).toBase64());
  const [image] = GenerationSchema.parse(JSON.parse(events[7]!.data)).images;
  deepEqual([image?.seed, image?.data], [7, undefined]);
});

Deno.test("a bad request is refused before a stream begins; a late failure ends it", async () => {
  await using service = await startWith(() =>
    Promise.reject(new PipelineError("face_not_found", "Photo 1 shows no face", { image: 1 }))
  );
  const stream = (body: unknown) => {
    const request = asJson(body);
    return service.call("/v1/generations", {
      ...request,
      headers: { ...request.headers as Record<string, string>, Accept: "text/event-stream" },
    });
  };
  await expectProblem(await stream({ ...least, class_noun: "unicorn" }), "class_noun_unknown");
  const response = await stream(least);
  equal(response.status, 200);
  const [queued, event] = await readEvents(response);
  deepEqual([queued?.event, event?.event], ["queued", "failed"]);
  const problem = ProblemSchema.parse(JSON.parse(event!.data));
  equal(problem.code, "face_not_found");
  equal(problem.status, 422);
  equal(problem.request_id, response.headers.get("X-Request-Id"));
  deepEqual(problem.details, { image: 1 });
});

Deno.test("a client that hangs up cancels its generation, waiting for JSON or for events", async (t) => {
  // more than fits in one packet: Deno.serve notices hang-ups differently then
  const body = JSON.stringify({ ...least, reference_images: [new Uint8Array(200_000).toBase64()] });
  const ways: [name: string, accept: string, send: () => BodyInit][] = [
    ["JSON", "application/json", () => body],
    ["JSON, sent in chunks", "application/json", () => new Blob([body]).stream()],
    ["events", "text/event-stream", () => body],
  ];
  for (const [name, accept, send] of ways) {
    await t.step(name, async () => {
      const begun = Promise.withResolvers<void>();
      const outcome = Promise.withResolvers<string>();
      await using service = await startWith((_input, options) => {
        begun.resolve();
        options?.onEvent?.({ type: "progress", progress: { stage: "denoise", step: 0, steps: 100 } });
        return new Promise((_, reject) => {
          const end = (how: string) => {
            clearTimeout(patience);
            outcome.resolve(how);
            reject(new PipelineError("canceled", "The generation was canceled"));
          };
          const patience = setTimeout(() => end("nobody canceled"), 5000);
          options?.signal?.addEventListener("abort", () => end("canceled"));
        });
      });
      const hangUp = new AbortController();
      const response = service.call("/v1/generations", {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: accept },
        body: send(),
        signal: hangUp.signal,
      }).then((answer) => answer.text()).catch((error: Error) => error.name);
      await begun.promise;
      hangUp.abort();
      equal(await response, "AbortError");
      equal(await outcome.promise, "canceled");
      // the service is none the worse for it
      const health = await service.call("/healthz");
      equal(health.status, 200);
      await health.body?.cancel();
      ok(service.log.some((line) => JSON.parse(line).status === "canceled"), service.log.join("\n"));
    });
  }
});

Deno.test("a generation that never comes to an end cuts the JSON off: no client takes half an answer for a whole", async () => {
  await using service = await startWith(async (_input, options) => {
    options?.onEvent?.({ type: "progress", progress: { stage: "denoise", step: 0, steps: 100 } });
    await delay(20);
    throw new Error("crashed");
  });
  const outcome = await service.call("/v1/generations", asJson(least)).then((answer) => answer.text())
    .then((text) => `answered ${text}`).catch((error: Error) => error.name);
  equal(outcome, "TypeError");
  ok(service.log.some((line) => JSON.parse(line).code === "worker_failed"));
});

Deno.test("every refusal of a request by the pipeline is a problem under its own code", async () => {
  const codes: Partial<Record<PipelineErrorCode, number>> = {
    image_not_decodable: 422,
    image_truncated: 422,
    image_too_large: 422,
    image_format_unsupported: 422,
    image_format_heic: 422,
    face_not_found: 422,
    multiple_faces: 422,
    face_too_small: 422,
    too_many_reference_images: 422,
    class_noun_unknown: 422,
    prompt_empty: 422,
    prompt_too_long: 422,
    scheduler_unknown: 422,
    deadline_exceeded: 504,
  };
  for (const [code, status] of Object.entries(codes) as [PipelineErrorCode, number][]) {
    await using service = await startWith(() =>
      Promise.reject(new PipelineError(code, "Why it is so.", { limit: 3 }))
    );
    const problem = await expectProblem(await service.call("/v1/generations", asJson(least)), code);
    equal(problem.status, status);
    equal(problem.detail, "Why it is so.");
    deepEqual(problem.details, { limit: 3 });
  }
});

Deno.test("an unexpected error shows nothing of itself, and the log nothing of the request", async () => {
  const secret = "prompt of a private person";
  for (const accept of ["application/json", "text/event-stream"]) {
    await using service = await startWith((input) => Promise.reject(new RangeError(`bad: ${input.prompt}`)));
    const request = asJson({ ...least, prompt: secret });
    const response = await service.call("/v1/generations", {
      ...request,
      headers: { ...request.headers as Record<string, string>, Accept: accept },
    });
    if (accept === "application/json") {
      const problem = await expectProblem(response, "worker_failed");
      equal(problem.detail, "The generation was started several times and never came to an end.");
    } else {
      const text = await response.text();
      match(text, /^event: failed/m);
      ok(!text.includes("RangeError") && !text.includes(secret));
    }
    const log = service.log.join("\n");
    match(log, /"error":"RangeError","stack":\["at /);
    ok(!log.includes(secret));
    ok(!log.includes(photo.toBase64().slice(0, 20)));
  }
});

Deno.test("the log tells how a generation ended, and no more of it than figures", async () => {
  const { service } = await startRecording();
  await using _ = service;
  const response = await service.call("/v1/generations", asJson(least));
  const { id } = await response.json();
  const lines = service.log.map((line) => JSON.parse(line));
  const generation = lines.find((line) => line.message === "generation");
  const { time: _time, request_id, seconds, ...figures } = generation;
  ok(seconds >= 0.68);
  deepEqual(figures, {
    level: "info",
    message: "generation",
    id,
    images: 1,
    steps: 17,
    status: "succeeded",
  });
  equal(request_id, response.headers.get("X-Request-Id"));
  ok(!service.log.join("\n").includes(least.prompt));
});
