/** What is refused before the pipeline hears of it. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { ProblemCode } from "../../openapi/problems.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { expectFields, expectProblem } from "./expect_problem.ts";
import { scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asForm, asJson, startService } from "./test_service.ts";

const photo = Uint8Array.of(1, 2, 3).toBase64();
const good = { reference_images: [photo], prompt: "a happy woman", class_noun: "woman" };

/** Any call of the pipeline is a fault of the test, see {@linkcode scriptInference}. */
const start = () => startService({ model: () => ({ manifest: testManifest, inference: scriptInference() }) });

type Case = readonly [body: unknown, code: ProblemCode, fields: readonly (readonly [string, ProblemCode])[]];

function one(
  change: Record<string, unknown>,
  code: ProblemCode,
  pointer = `/${Object.keys(change)[0]}`,
): Case {
  return [{ ...good, ...change }, code, [[pointer, code]]];
}

const cases: readonly Case[] = [
  [{ prompt: "p", class_noun: "man" }, "image_missing", [["/reference_images", "image_missing"]]],
  [{ ...good, reference_images: [] }, "image_missing", [["/reference_images", "image_missing"]]],
  [{ reference_images: [photo], class_noun: "man" }, "field_missing", [["/prompt", "field_missing"]]],
  [{ reference_images: [photo], prompt: "p" }, "field_missing", [["/class_noun", "field_missing"]]],
  one({ reference_images: photo }, "wrong_type"),
  one({ reference_images: [7] }, "wrong_type", "/reference_images/0"),
  one({ reference_images: null }, "wrong_type"),
  one({ reference_images: [photo, "%%%"] }, "base64_invalid", "/reference_images/1"),
  one({ reference_images: ["data:image/png;base64,"] }, "base64_invalid", "/reference_images/0"),
  one({ reference_images: ["data:image/png,plain"] }, "base64_invalid", "/reference_images/0"),
  one({ reference_images: ["https://example.com/a.jpg"] }, "base64_invalid", "/reference_images/0"),
  one({ reference_images: ["file:///etc/passwd"] }, "base64_invalid", "/reference_images/0"),
  one({ reference_images: Array(4).fill(photo) }, "too_many_reference_images"),
  one({ reference_images: Array(17).fill(photo) }, "too_many_reference_images"),
  one({ prompt: "" }, "prompt_empty"),
  one({ prompt: " \n\t " }, "prompt_empty"),
  one({ prompt: "x".repeat(1001) }, "prompt_too_long"),
  one({ prompt: 5 }, "wrong_type"),
  one({ prompt: null }, "wrong_type"),
  one({ negative_prompt: "x".repeat(1001) }, "prompt_too_long"),
  one({ class_noun: "unicorn" }, "class_noun_unknown"),
  one({ class_noun: "" }, "class_noun_unknown"),
  one({ class_noun: "Woman" }, "class_noun_unknown"),
  one({ num_images: 0 }, "out_of_range"),
  one({ num_images: 9 }, "out_of_range"),
  one({ num_images: 1.5 }, "wrong_type"),
  one({ num_images: "2" }, "wrong_type"),
  one({ num_images: true }, "wrong_type"),
  one({ num_inference_steps: 0 }, "out_of_range"),
  one({ num_inference_steps: 101 }, "out_of_range"),
  one({ guidance_scale: 0.99 }, "out_of_range"),
  one({ guidance_scale: 20.01 }, "out_of_range"),
  one({ identity_guidance_scale: -1 }, "out_of_range"),
  one({ early_guidance_scale: 0.5 }, "out_of_range"),
  one({ early_identity_guidance_scale: 21 }, "out_of_range"),
  one({ early_guidance_until: 1000.1 }, "out_of_range"),
  one({ guidance_rescale: 1.1 }, "out_of_range"),
  one({ identity_strength: -0.1 }, "out_of_range"),
  one({ identity_strength: 2.1 }, "out_of_range"),
  one({ pose_variation: -1 }, "out_of_range"),
  one({ pose_variation: 20.1 }, "out_of_range"),
  one({ cache_interval: 0 }, "out_of_range"),
  one({ cache_interval: 11 }, "out_of_range"),
  one({ cache_interval: 1.5 }, "wrong_type"),
  one({ preview_interval: 101 }, "out_of_range"),
  one({ preview_interval: 2.5 }, "wrong_type"),
  one({ scheduler: "karras" }, "scheduler_unknown"),
  one({ scheduler: 3 }, "wrong_type"),
  one({ seed: -1 }, "out_of_range"),
  one({ seed: 4_294_967_288 }, "out_of_range"),
  one({ seed: 1e300 }, "out_of_range"),
  one({ output_format: "gif" }, "invalid_value"),
  one({ model: "sd-3" }, "model_unknown"),
  one({ stepz: 3 }, "unknown_field"),
  one({ "a/b~c": 3 }, "unknown_field", "/a~1b~0c"),
  [{ ...good, a: 1, b: 2 }, "unknown_field", [["/a", "unknown_field"], ["/b", "unknown_field"]]],
  [{ ...good, seed: "x", num_images: 99 }, "invalid_request", [["/num_images", "out_of_range"], [
    "/seed",
    "wrong_type",
  ]]],
  [[good], "wrong_type", [["", "wrong_type"]]],
  ["text", "wrong_type", [["", "wrong_type"]]],
  [null, "wrong_type", [["", "wrong_type"]]],
];

Deno.test("a wrong field is named by its pointer, its code and what it should hold", async (t) => {
  await using service = await start();
  for (const [body, code, fields] of cases) {
    await t.step(`${code}: ${JSON.stringify(body).slice(0, 90)}`, async () => {
      const problem = await expectProblem(await service.call("/v1/generations", asJson(body)), code);
      expectFields(problem, fields);
      equal(problem.status, 422);
      for (const { detail } of problem.errors ?? []) ok(detail.length > 5);
    });
  }
});

Deno.test("a model without a graph for cached steps says so, and takes 1", async () => {
  const { unet_shallow: _, ...graphs } = testManifest.graphs;
  const manifest = { ...testManifest, graphs };
  const asked: number[] = [];
  const inference = scriptInference({
    generate: (input) => {
      asked.push(input.cacheInterval);
      return Promise.reject(new PipelineError("face_not_found", "Photo 1 shows no face", { image: 1 }));
    },
  });
  await using service = await startService({ model: () => ({ manifest, inference }) });
  const ask = (cache_interval: number) =>
    service.call("/v1/generations", asJson({ ...good, cache_interval }));
  const problem = await expectProblem(await ask(2), "cache_interval_unsupported");
  expectFields(problem, [["/cache_interval", "cache_interval_unsupported"]]);
  deepEqual(asked, []);
  await expectProblem(await ask(1), "face_not_found");
  deepEqual(asked, [1]);
  const { data: [model] } = await (await service.call("/v1/models")).json();
  deepEqual(model.limits.cache_interval, { min: 1, max: 1 });
});

Deno.test("the remedy is in the words of the field", async () => {
  await using service = await start();
  const detail = async (change: Record<string, unknown>) => {
    const response = await service.call("/v1/generations", asJson({ ...good, ...change }));
    return (await response.json()).errors[0].detail;
  };
  equal(await detail({ num_images: 9 }), "must be at most 8");
  equal(await detail({ num_images: "2" }), "must be a number");
  equal(await detail({ num_images: 1.5 }), "must be a whole number");
  equal(
    await detail({ scheduler: "karras" }),
    "must be one of ddim, euler, euler_ancestral, euler_restart, dpmpp_2m, dpmpp_2m_sde, unipc",
  );
  equal(await detail({ class_noun: "cat" }), "must be one of man, woman");
  equal(await detail({ prompt: "x".repeat(1001) }), "must have at most 1000 characters");
});

Deno.test("forms: the same rules, numbers exactly as JSON writes them", async (t) => {
  await using service = await start();
  const file = Uint8Array.of(1, 2, 3);
  const form = { reference_images: file, prompt: "a happy woman", class_noun: "woman" };
  const formCases: [string, Parameters<typeof asForm>[0], ProblemCode, string][] = [
    ["no file", { prompt: "p", class_noun: "man" }, "image_missing", "/reference_images"],
    ["text for a file", { ...form, reference_images: photo }, "wrong_type", "/reference_images/0"],
    ["a file for text", { ...form, prompt: file }, "wrong_type", "/prompt"],
    ["a field twice", { ...form, prompt: ["a", "b"] }, "wrong_type", "/prompt"],
    [
      "too many files",
      { ...form, reference_images: [file, file, file, file] },
      "too_many_reference_images",
      "/reference_images",
    ],
    ["unknown field", { ...form, stepz: "3" }, "unknown_field", "/stepz"],
    ["file under another name", { ...form, image: file }, "unknown_field", "/image"],
    ["empty prompt", { ...form, prompt: "" }, "prompt_empty", "/prompt"],
    ["fraction of an image", { ...form, num_images: "1.5" }, "wrong_type", "/num_images"],
    ["null as text", { ...form, seed: "null" }, "wrong_type", "/seed"],
    ["out of range", { ...form, seed: "4294967288" }, "out_of_range", "/seed"],
    ...["", " 3", "3 ", "+3", "0x3", "03", "3.", ".5", "1_000", "٣", "NaN", "Infinity", "three"].map((
      text,
    ): [string, Parameters<typeof asForm>[0], ProblemCode, string] => [
      `number written ${JSON.stringify(text)}`,
      { ...form, guidance_scale: text },
      "wrong_type",
      "/guidance_scale",
    ]),
  ];
  for (const [name, fields, code, pointer] of formCases) {
    await t.step(name, async () => {
      const problem = await expectProblem(await service.call("/v1/generations", asForm(fields)), code);
      expectFields(problem, [[pointer, code]]);
    });
  }
});

Deno.test("very many unknown fields are more than twenty", async () => {
  await using service = await start();
  const unknown = Object.fromEntries(Array.from({ length: 5000 }, (_, at) => [`field_${at}`, at]));
  const problem = await expectProblem(
    await service.call("/v1/generations", asJson({ ...good, ...unknown })),
    "unknown_field",
  );
  equal(problem.errors?.length, 20);
  equal(problem.detail, "More than 20 fields are wrong.");
});

Deno.test("a field may be called like what every object has", async () => {
  await using service = await start();
  const form = new FormData();
  for (const value of ["a", "b"]) form.append("constructor", value);
  const response = await service.call("/v1/images/edits", { method: "POST", body: form });
  equal(response.status, 400);
  ok(/constructor/.test(await response.text()));
});

Deno.test("POST /v1/faces: the photo and nothing else", async () => {
  await using service = await start();
  const faces = (request: RequestInit) => service.call("/v1/faces", request);
  expectFields(await expectProblem(await faces(asJson({})), "image_missing"), [["/image", "image_missing"]]);
  expectFields(await expectProblem(await faces(asJson({ image: "" })), "image_missing"), [[
    "/image",
    "image_missing",
  ]]);
  expectFields(await expectProblem(await faces(asForm({ note: "x" })), "invalid_request"), [
    ["/image", "image_missing"],
    ["/note", "unknown_field"],
  ]);
  expectFields(await expectProblem(await faces(asJson({ image: [photo] })), "wrong_type"), [[
    "/image",
    "wrong_type",
  ]]);
  expectFields(await expectProblem(await faces(asJson({ image: "!" })), "base64_invalid"), [[
    "/image",
    "base64_invalid",
  ]]);
  const twice = asForm({ image: [Uint8Array.of(1), Uint8Array.of(2)] });
  expectFields(await expectProblem(await faces(twice), "wrong_type"), [["/image", "wrong_type"]]);
});

Deno.test("a body that does not parse, or is of another kind", async () => {
  await using service = await start();
  const send = (type: string | undefined, body?: BodyInit) =>
    service.call("/v1/generations", {
      method: "POST",
      ...(type === undefined ? {} : { headers: { "Content-Type": type } }),
      ...(body === undefined ? {} : { body }),
    });
  await expectProblem(await send("application/json", "{"), "json_malformed");
  await expectProblem(await send("application/json", ""), "json_malformed");
  await expectProblem(await send("application/json", Uint8Array.of(0x22, 0xff, 0x22)), "json_malformed");
  await expectProblem(await send("multipart/form-data; boundary=x", "nonsense"), "multipart_malformed");
  await expectProblem(await send("multipart/form-data", "nonsense"), "multipart_malformed");
  const long = `multipart/form-data; boundary=${"x".repeat(71)}`;
  await expectProblem(await send(long, `--${"x".repeat(71)}--`), "multipart_malformed");
  const parts = new FormData();
  for (let part = 0; part < 65; part++) parts.append("prompt", "x");
  deepEqual((await expectProblem(await send(undefined, parts), "body_too_large")).details, { limit: 64 });
  const commas = `{"prompt":"a"${',"prompt":"a"'.repeat(10_001)}}`;
  await expectProblem(await send("application/json", commas), "body_too_large");
  await expectProblem(await send("text/plain", "hello"), "media_type_unsupported");
  await expectProblem(await send("application/x-www-form-urlencoded", "prompt=a"), "media_type_unsupported");
  const nothing = await send(undefined);
  match(nothing.headers.get("Accept") ?? "", /application\/json/);
  await expectProblem(nothing, "media_type_unsupported");
});

Deno.test("a body over the limit is refused by its length, and by what has come when it tells none", async () => {
  const model = () => ({ manifest: testManifest, inference: scriptInference() });
  await using service = await startService({ model, maxBodyBytes: 2000 });
  const large = JSON.stringify({ ...good, prompt: "x".repeat(3000) });
  const headers = { "Content-Type": "application/json" };
  const told = await service.call("/v1/generations", { method: "POST", headers, body: large });
  deepEqual((await expectProblem(told, "body_too_large")).details, { limit: 2000 });
  const chunks = ReadableStream.from(
    [large.slice(0, 1500), large.slice(1500)].map((part) => new TextEncoder().encode(part)),
  );
  const untold = await service.call("/v1/generations", { method: "POST", headers, body: chunks });
  await expectProblem(untold, "body_too_large");
  const health = await service.call("/healthz");
  equal(health.status, 200);
  await health.body?.cancel();
});
