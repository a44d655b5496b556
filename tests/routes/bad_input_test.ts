/**
 * Whatever a client sends, the real service with the real worker refuses it with a problem of its own and goes on
 * serving. One service takes all of it, one after another.
 */

import { equal, ok } from "node:assert/strict";
import { FaceReportSchema } from "../../openapi/face.ts";
import { GenerationSchema } from "../../openapi/generation.ts";
import type { ProblemCode } from "../../openapi/problems.ts";
import { emptyScene, hugePng, rewrite, twoFaces } from "./bad_photos.ts";
import { expectProblem } from "./expect_problem.ts";
import { loadRealModel, readFacePhoto } from "./real_model.ts";
import { asForm, asJson, startService, type TestService } from "./test_service.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Fails unless the worker still judges a good photo. */
async function expectAnswer(service: TestService, face: Bytes): Promise<void> {
  const ready = await service.call("/readyz");
  equal(ready.status, 200);
  await ready.body?.cancel();
  const response = await service.call("/v1/faces", asForm({ image: face }));
  const report = FaceReportSchema.parse(await response.json());
  equal(report.faces.length, 1);
}

Deno.test("bad input: a problem with its own code, and the service still answers", async (t) => {
  await using model = await loadRealModel();
  await using service = await startService({ model: () => model });
  const face = await readFacePhoto();
  const noun = model.manifest.class_nouns[0] ?? "";
  const good = {
    reference_images: [face.toBase64()],
    prompt: "a portrait",
    class_noun: noun,
    num_inference_steps: 1,
  };
  const goodForm = {
    reference_images: face,
    prompt: "a portrait",
    class_noun: noun,
    num_inference_steps: "1",
  };

  const requests: [name: string, request: RequestInit, code: ProblemCode][] = [
    ["no file, JSON", asJson({ ...good, reference_images: [] }), "image_missing"],
    ["no file, field left out", asJson({ prompt: "a portrait", class_noun: noun }), "image_missing"],
    ["no file, form", asForm({ prompt: "a portrait", class_noun: noun }), "image_missing"],
    ["no body", { method: "POST" }, "media_type_unsupported"],
    ["unknown class noun", asJson({ ...good, class_noun: "unicorn" }), "class_noun_unknown"],
    ["empty prompt", asJson({ ...good, prompt: "" }), "prompt_empty"],
    ["blank prompt, form", asForm({ ...goodForm, prompt: "  " }), "prompt_empty"],
    // under 1000 characters, but more tokens than any CLIP text encoder takes
    ["prompt of too many tokens", asJson({ ...good, prompt: "red car ".repeat(120) }), "prompt_too_long"],
    [
      "negative prompt of too many tokens",
      asJson({ ...good, negative_prompt: "hat ".repeat(200) }),
      "prompt_too_long",
    ],
    ["prompt of too many characters", asJson({ ...good, prompt: "x".repeat(1001) }), "prompt_too_long"],
    ["unknown field", asJson({ ...good, promt: "a" }), "unknown_field"],
    ["wrong type", asJson({ ...good, num_images: "two" }), "wrong_type"],
    ["wrong type, form", asForm({ ...goodForm, num_images: "two" }), "wrong_type"],
    ["photo not base64", asJson({ ...good, reference_images: ["*"] }), "base64_invalid"],
  ];
  for (const [name, request, code] of requests) {
    await t.step(name, async () => {
      const problem = await expectProblem(await service.call("/v1/generations", request), code);
      ok(problem.status >= 400 && problem.status < 500);
    });
  }

  const jpeg = await rewrite(face, "jpeg");
  const broken = await rewrite(face, "png");
  broken.fill(0x55, 200, 400); // whole by its structure, nonsense inside
  const photos: [name: string, photo: Bytes, code: ProblemCode][] = [
    ["an empty file", new Uint8Array(), "image_not_decodable"],
    ["not an image", new TextEncoder().encode("I am not a photo. ".repeat(50)), "image_not_decodable"],
    ["a truncated JPEG", jpeg.slice(0, jpeg.length / 2), "image_truncated"],
    ["a truncated PNG", face.slice(0, face.length / 2), "image_truncated"],
    ["a damaged PNG", broken, "image_not_decodable"],
    ["a GIF", await rewrite(face, "gif"), "image_format_unsupported"],
    [
      "a HEIC",
      new TextEncoder().encode("\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08mdat"),
      "image_format_heic",
    ],
    ["30,000 x 30,000 pixels", hugePng(30_000), "image_too_large"],
  ];
  for (const [name, photo, code] of photos) {
    await t.step(name, async () => {
      const started = performance.now();
      const generation = await service.call(
        "/v1/generations",
        asForm({ ...goodForm, reference_images: photo }),
      );
      equal((await expectProblem(generation, code)).status, 422);
      equal(
        (await expectProblem(await service.call("/v1/faces", asForm({ image: photo })), code)).status,
        422,
      );
      // nothing of 900 million pixels may have been decoded
      ok(performance.now() - started < 5000);
      await expectAnswer(service, face);
    });
  }

  const people: [name: string, photo: Bytes, code: ProblemCode, faces: number][] = [
    ["no face", await emptyScene(), "face_not_found", 0],
    ["two faces", await twoFaces(face), "multiple_faces", 2],
  ];
  for (const [name, photo, code, count] of people) {
    await t.step(name, async () => {
      for (
        const request of [
          asForm({ ...goodForm, reference_images: photo }),
          asJson({ ...good, reference_images: [photo.toBase64()] }),
        ]
      ) {
        equal((await expectProblem(await service.call("/v1/generations", request), code)).status, 422);
      }
      const response = await service.call("/v1/faces", asJson({ image: photo.toBase64() }));
      equal(response.status, 200);
      const report = FaceReportSchema.parse(await response.json());
      equal(report.faces.length, count);
      equal(report.usable, false);
      ok(report.problems.some((problem) => problem.code === code && problem.blocking));
      await expectAnswer(service, face);
    });
  }

  await t.step("after all of it the service still makes portraits", async () => {
    const response = await service.call("/v1/generations", asJson(good));
    equal(response.status, 200);
    equal(GenerationSchema.parse(await response.json()).images.length, 1);
  });

  await t.step("the log holds no photo, token or prompt", () => {
    const log = service.log.join("\n");
    ok(!log.includes("a portrait") && !log.includes("red car") && !log.includes("Bearer"));
    ok(!log.includes(face.toBase64().slice(0, 24)));
    for (const line of service.log) JSON.parse(line);
  });
});
