/** The unmodified `openai` package of npm against the live service and the real model. */

import { deepEqual, equal, match, notEqual, ok, rejects } from "node:assert/strict";
import OpenAI, { toFile } from "openai";
import sharp from "sharp";
import { findClassNoun } from "../../routes/image_edit_input.ts";
import { emptyScene } from "./bad_photos.ts";
import { loadRealModel, readFacePhoto } from "./real_model.ts";
import { startService, type TestService } from "./test_service.ts";

async function clientOf(service: TestService, apiKey?: string): Promise<OpenAI> {
  return new OpenAI({
    baseURL: `${service.address}/v1`,
    apiKey: apiKey ?? await service.sign(),
    maxRetries: 0,
  });
}

/** An error of one of the package's classes, with what its body said. */
function isError(
  type: new (...args: never[]) => InstanceType<typeof OpenAI.APIError>,
  status: number,
  code: string,
  param: string | null = null,
) {
  return (error: unknown) => {
    ok(error instanceof type, `${error}`);
    deepEqual([error.status, error.code, error.param ?? null], [status, code, param]);
    ok(typeof error.type === "string" && error.type.length > 0);
    match(error.message, new RegExp(`^${status} .+\\..+\\.$`), "says what is wrong and what to do");
    match(error.requestID ?? "", /^.{8,}$/);
    return true;
  };
}

Deno.test("OpenAI's npm package makes portraits", async (t) => {
  await using model = await loadRealModel();
  await using service = await startService({ model: () => model });
  const client = await clientOf(service);
  const { image_size, name } = model.manifest;
  const size = `${image_size}x${image_size}`;
  const photo = () => readFacePhoto().then((bytes) => toFile(bytes, "me.png", { type: "image/png" }));
  // extra fields as the package passes them on
  const fast = { num_inference_steps: 4, seed: 11 } as object;
  let first = "";

  await t.step("models", async () => {
    const models = await client.models.list();
    deepEqual(models.data.map(({ id, object, created, owned_by }) => ({ id, object, created, owned_by })), [
      { id: name, object: "model", created: 0, owned_by: "idadapter" },
    ]);
  });

  await t.step("two pictures of one photo as base64", async () => {
    const answer = await client.images.edit({
      image: await photo(),
      prompt: "a smiling woman",
      model: name,
      n: 2,
      size: size as "auto",
      quality: "low",
      background: "opaque",
      output_format: "webp",
      user: "u1",
      ...fast,
    });
    deepEqual([answer.size, answer.quality, answer.output_format, answer.background], [
      size,
      "low",
      "webp",
      "opaque",
    ]);
    equal(answer.data?.length, 2);
    ok(Math.abs(answer.created - Date.now() / 1000) < 60);
    for (const { b64_json } of answer.data ?? []) {
      const { format, width } = await sharp(Uint8Array.fromBase64(b64_json ?? "")).metadata();
      deepEqual([format, width], ["webp", image_size]);
    }
    first = answer.data?.[0]?.b64_json ?? "";
    notEqual(first, answer.data?.[1]?.b64_json);
  });

  await t.step("a list of photos, addresses for answers", async () => {
    const image = [await photo(), await photo()];
    const { data = [], output_format } = await client.images.edit({
      image,
      prompt: "a smile",
      response_format: "url",
      ...fast,
    });
    equal(output_format, "png");
    const url = data[0]?.url ?? "";
    ok(url.startsWith(`${service.address}/v1/generations/gen_`), url);
    const file = await service.call(url.slice(service.address.length));
    equal(file.headers.get("Content-Type"), "image/png");
    equal((await sharp(await file.bytes()).metadata()).width, image_size);
  });

  await t.step("a stream with previews, and the same picture at its end", async () => {
    const stream = await client.images.edit({
      image: await photo(),
      prompt: "a smiling woman",
      output_format: "webp",
      stream: true,
      partial_images: 1,
      ...fast,
    });
    const events = [];
    for await (const event of stream) events.push(event);
    deepEqual(events.map(({ type }) => type), ["image_edit.partial_image", "image_edit.completed"]);
    const [partial, completed] = events;
    ok(partial?.type === "image_edit.partial_image" && completed?.type === "image_edit.completed");
    equal(partial.partial_image_index, 0);
    const preview = await sharp(Uint8Array.fromBase64(partial.b64_json)).metadata();
    deepEqual([preview.format, `${preview.width}x${preview.height}`], [partial.output_format, partial.size]);
    equal(completed.b64_json, first);
    equal(completed.usage.total_tokens, 0);
  });

  await t.step("a key makes and charges once", async () => {
    const ask = async () =>
      await client.images.edit({ image: await photo(), prompt: "a smile", num_inference_steps: 2 } as never, {
        headers: { "Idempotency-Key": "once" },
      });
    const answer = await ask();
    const { spent } = await (await service.call("/v1/account")).json();
    deepEqual(await ask(), answer);
    equal((await (await service.call("/v1/account")).json()).spent, spent);
  });

  await t.step("what is wrong with a request is a BadRequestError that names the field", async () => {
    const image = await photo();
    const refused: [object, string, string | null][] = [
      [{ prompt: " " }, "prompt_empty", "prompt"],
      [{ n: 9 }, "out_of_range", "n"],
      [{ size: "1024x1024" }, "invalid_value", "size"],
      [{ background: "transparent" }, "invalid_value", "background"],
      [{ model: "gpt-image-2" }, "model_unknown", "model"],
      [{ mask: image }, "unknown_field", "mask"],
      [{ output_compression: 50 }, "out_of_range", "output_compression"],
      [{ class_noun: "cat" }, "class_noun_unknown", "class_noun"],
      [
        { image: Array(model.manifest.max_reference_images + 1).fill(image) },
        "too_many_reference_images",
        "image",
      ],
      [{ image: await toFile(await emptyScene(), "empty.jpg") }, "face_not_found", null],
      [{ image: await toFile(await emptyScene(), "empty.jpg"), stream: true }, "face_not_found", null],
    ];
    for (const [fields, code, param] of refused) {
      const asked = client.images.edit({ image, prompt: "a smile", ...fields } as never);
      await rejects(asked, isError(OpenAI.BadRequestError, 400, code, param));
    }
  });

  await t.step("refusals of the account raise classes of their own", async () => {
    const ask = async (of: OpenAI) => of.images.edit({ image: await photo(), prompt: "a smile" });
    await rejects(
      (await clientOf(service, "sk-nobody")).models.list(),
      isError(OpenAI.AuthenticationError, 401, "token_malformed"),
    );
    await rejects(
      ask(await clientOf(service, await service.sign({ exp: 1 }))),
      isError(OpenAI.AuthenticationError, 401, "token_expired"),
    );
    await rejects(
      ask(await clientOf(service, await service.sign({ scope: "models:read" }))),
      isError(OpenAI.PermissionDeniedError, 403, "scope_missing"),
    );
    await rejects(
      client.images.generate({ prompt: "a smile" }),
      isError(OpenAI.NotFoundError, 404, "not_found"),
    );
    await using poor = await startService({ model: () => model, settings: { initialCredit: 0 } });
    await rejects(
      ask(await clientOf(poor, await poor.sign({ sub: "poor" }))),
      isError(OpenAI.APIError, 402, "insufficient_credits"),
    );
    await using busy = await startService({ model: () => model, settings: { mostAtOnce: 0 } });
    await rejects(ask(await clientOf(busy)), isError(OpenAI.RateLimitError, 429, "too_many_generations"));
  });
});

Deno.test("the class noun of a prompt is its first, as a word of its own", () => {
  const nouns = ["man", "woman", "person"];
  equal(findClassNoun("A Woman beside a man", nouns), "woman");
  equal(findClassNoun("a romantic portrait", nouns), "person");
  equal(findClassNoun("portrait, man's hat", nouns), "man");
  equal(findClassNoun("a smile", ["boy", "girl"]), "boy");
});
