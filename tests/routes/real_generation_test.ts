/** The real worker behind the real HTTP side: good requests. */

import { deepEqual, equal, ok } from "node:assert/strict";
import sharp from "sharp";
import { type Generation, GenerationSchema } from "../../openapi/generation.ts";
import { loadRealModel, readFacePhoto } from "./real_model.ts";
import { asForm, asJson, startService } from "./test_service.ts";

Deno.test("portraits come as JSON, by form and by event stream, and a seed makes the same picture each way", async (t) => {
  await using model = await loadRealModel();
  await using service = await startService({ model: () => model });
  const face = await readFacePhoto();
  const { image_size, class_nouns, name, max_reference_images } = model.manifest;
  const noun = class_nouns[0] ?? "";
  const body = {
    reference_images: [face.toBase64()],
    prompt: "a smile",
    class_noun: noun,
    num_inference_steps: 2,
    seed: 11,
  };
  let first: Generation | undefined;

  await t.step("JSON", async () => {
    const response = await service.call("/v1/generations", asJson({ ...body, num_images: 2 }));
    equal(response.status, 200);
    first = GenerationSchema.parse(await response.json());
    equal(first.model, name);
    deepEqual(first.images.map(({ index, seed }) => [index, seed]), [[0, 11], [1, 12]]);
    ok(first.images[0]?.data !== first.images[1]?.data, "two seeds, two pictures");
    for (const image of first.images) {
      const { format, width, height } = await sharp(Uint8Array.fromBase64(image.data ?? "")).metadata();
      deepEqual([format, width, height], ["png", image_size, image_size]);
      deepEqual([image.content_type, image.width, image.height], ["image/png", image_size, image_size]);
    }
    const { total, ...stages } = first.timings;
    const sum = Object.values(stages).reduce((a, b) => a + b, 0);
    ok(total > 0 && sum <= total * 1.05 + 0.01, `stages ${sum} s of ${total} s`);
  });

  await t.step("a form with a file asks for the same and gets the same", async () => {
    const response = await service.call(
      "/v1/generations",
      asForm({
        reference_images: face,
        prompt: "a smile",
        class_noun: noun,
        num_inference_steps: "2",
        seed: "12",
      }),
    );
    const [image] = GenerationSchema.parse(await response.json()).images;
    const [mine, theirs] = await Promise.all(
      [image?.data ?? "", first?.images[1]?.data ?? ""].map((data) =>
        sharp(Uint8Array.fromBase64(data)).raw().toBuffer()
      ),
    );
    ok(mine !== undefined && theirs !== undefined);
    // who shares the batch may change the last bit, no more
    const furthest = mine.reduce((most, value, i) => Math.max(most, Math.abs(value - (theirs[i] ?? 999))), 0);
    ok(furthest <= 1, `pixels differ by ${furthest}`);
  });

  await t.step("events", async () => {
    const request = asJson(body);
    const response = await service.call("/v1/generations", {
      ...request,
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    });
    const blocks = (await response.text()).trimEnd().split("\n\n").map((block) => block.split("\n"));
    const names = blocks.map(([event]) => event);
    deepEqual(names.slice(0, 2), ["event: queued", "event: started"]);
    deepEqual(names.slice(-2), ["event: image", "event: succeeded"]);
    ok(names.slice(2, -2).every((event) => event === "event: progress"), names.join());
    const progress = blocks.slice(2, -2).map(([, data]) => JSON.parse(data?.slice("data: ".length) ?? ""));
    const steps = progress.filter(({ stage }) => stage === "denoise").map(({ step, steps }) =>
      `${step}/${steps}`
    );
    deepEqual(steps.slice(-2), ["1/2", "2/2"]);
    const stages = [...new Set(progress.map(({ stage }) => stage))];
    deepEqual(stages, ["references", "prompt", "denoise", "decode", "encode"]);
    const last = GenerationSchema.parse(JSON.parse(blocks.at(-1)?.[1]?.slice("data: ".length) ?? ""));
    equal(last.images[0]?.seed, 11);
  });

  await t.step("every sampler and format, and as many photos as the model mixes", async () => {
    for (const [scheduler, output_format] of [["ddim", "jpeg"], ["euler", "webp"], ["dpmpp_2m", "png"]]) {
      const references = Array(max_reference_images).fill(face.toBase64());
      const request = asJson({ ...body, reference_images: references, scheduler, output_format });
      const response = await service.call("/v1/generations", request);
      const [image] = GenerationSchema.parse(await response.json()).images;
      equal((await sharp(Uint8Array.fromBase64(image?.data ?? "")).metadata()).format, output_format);
    }
  });

  await t.step("a client that hangs up frees the worker for the next", async () => {
    const hangUp = new AbortController();
    const request = asJson({ ...body, num_inference_steps: 100, num_images: 8 });
    const started = performance.now();
    const gone = service.call("/v1/generations", { ...request, signal: hangUp.signal })
      .then((response) => response.text()).catch((error: Error) => error.name);
    await new Promise((resolve) => setTimeout(resolve, 500));
    hangUp.abort();
    equal(await gone, "AbortError");
    const response = await service.call("/v1/generations", asJson(body));
    equal(GenerationSchema.parse(await response.json()).images.length, 1);
    const waited = performance.now() - started;
    const lines = service.log.map((line) => JSON.parse(line));
    ok(
      lines.some((line) => line.status === "canceled" && line.steps === 100),
      `waited ${waited} ms, not canceled`,
    );
    ok(!lines.some((line) => line.status === "succeeded" && line.steps === 100));
  });
});
