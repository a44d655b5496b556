import assert from "node:assert/strict";
import { InferenceClient, startInference } from "../../pipeline/client.ts";
import { decodePhoto } from "../../pipeline/photo.ts";
import { type GenerateProgress, type Inference, PipelineError } from "../../pipeline/protocol.ts";
import { maxDifference } from "../read_fixture.ts";
import { bundleFolder, portrait, sessionSettings, smallRequest } from "../real_bundle.ts";

const settings = { bundle: bundleFolder, ...sessionSettings };

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(() => assert.fail("was answered"), (error) => error);
  assert.ok(error instanceof PipelineError, String(error));
  return error.code;
}

/** Resolves once a generation has taken `count` steps; resolves with its progress so far. */
function afterSteps(
  inference: Inference,
  input: ReturnType<typeof smallRequest>,
  count: number,
  signal?: AbortSignal,
) {
  const progress: GenerateProgress[] = [];
  const { promise: reached, resolve } = Promise.withResolvers<void>();
  const output = inference.generate(input, {
    ...(signal === undefined ? {} : { signal }),
    onProgress: (now) => {
      progress.push(now);
      if (now.stage === "denoise" && now.step === count) resolve();
    },
  });
  output.catch(() => {});
  return { reached, output, progress };
}

Deno.test("the worker", async (t) => {
  const photo = await portrait();
  const inference = await startInference(settings);
  assert.equal(inference.ready, true);

  await t.step("answers a generation, with progress, and leaves the caller its photo", async () => {
    const { output, progress } = afterSteps(inference, smallRequest(photo, { numImages: 2 }), 1);
    const { images } = await output;
    assert.equal(images.length, 2);
    assert.equal((await decodePhoto(images[0]!.data)).width, images[0]!.width);
    assert.equal(progress.filter(({ stage }) => stage === "denoise").length, 5);
    assert.ok(photo.byteLength > 0, "the photo was not transferred away");
  });

  await t.step("checks a photo", async () => {
    const report = await inference.checkFace(photo);
    assert.equal(report.faces.length, 1);
    assert.equal(await codeOf(inference.checkFace(new Uint8Array(10))), "image_not_decodable");
  });

  await t.step("checks a photo between two steps of a running generation", async () => {
    const controller = new AbortController();
    const long = afterSteps(inference, smallRequest(photo, { numInferenceSteps: 100 }), 2, controller.signal);
    await long.reached;
    const before = long.progress.at(-1)!.step;
    const report = await inference.checkFace(photo);
    const meanwhile = long.progress.at(-1)!.step - before;
    assert.equal(report.faces.length, 1);
    // The step that was running, and those whose progress was still on its way.
    assert.ok(meanwhile <= 4, `${meanwhile} steps were taken first`);
    controller.abort();
    assert.equal(await codeOf(long.output), "canceled");
  });

  await t.step("refuses with the pipeline's code and details", async () => {
    const error = await inference.generate(smallRequest(photo, { prompt: "hat ".repeat(500) })).catch((e) =>
      e
    );
    assert.ok(error instanceof PipelineError);
    assert.equal(error.code, "prompt_too_long");
    assert.ok(Number(error.details["tokens"]) > Number(error.details["limit"]));
  });

  await t.step("cancels a running generation and goes on with the next in line", async () => {
    const controller = new AbortController();
    const long = smallRequest(photo, { numInferenceSteps: 100 });
    const running = afterSteps(inference, long, 2, controller.signal);
    const next = inference.generate(smallRequest(photo));
    await running.reached;
    controller.abort();
    assert.equal(await codeOf(running.output), "canceled");
    assert.ok(running.progress.at(-1)!.step < 50);
    assert.equal((await next).images.length, 1);
  });

  await t.step("cancels what still waits without touching what runs", async () => {
    const running = afterSteps(inference, smallRequest(photo, { numInferenceSteps: 40 }), 1);
    const controller = new AbortController();
    const waiting = inference.generate(smallRequest(photo), { signal: controller.signal });
    const canceled = codeOf(waiting);
    await running.reached;
    controller.abort();
    assert.equal(await canceled, "canceled");
    assert.ok(running.progress.at(-1)!.step < 40, "the answer did not wait for the other's end");
    assert.equal((await running.output).images.length, 1);
    assert.equal(
      await codeOf(inference.generate(smallRequest(photo), { signal: AbortSignal.abort() })),
      "canceled",
    );
  });

  await t.step("requests at once each get their own picture", async () => {
    const requests = [1, 2, 3].map((seed) => smallRequest(photo, { seed }));
    const together = await Promise.all(requests.map((request) => inference.generate(request)));
    const alone = await inference.generate(requests[1]!);
    const pixels = await Promise.all(
      [...together, alone].map(async ({ images }) => (await decodePhoto(images[0]!.data)).data),
    );
    assert.deepEqual(together.map(({ images }) => images[0]!.seed), [1, 2, 3]);
    assert.equal(maxDifference(pixels[1]!, pixels[3]!), 0);
    assert.ok(maxDifference(pixels[0]!, pixels[1]!) > 0);
  });

  await t.step("once closed, running and later calls are rejected", async () => {
    const running = afterSteps(inference, smallRequest(photo, { numInferenceSteps: 100 }), 1);
    const rejected = codeOf(running.output);
    await running.reached;
    await inference.close();
    assert.equal(await rejected, "canceled");
    assert.equal(inference.ready, false);
    assert.equal(await codeOf(inference.checkFace(photo)), "canceled");
  });
});

Deno.test("a worker that dies rejects its calls and is no longer ready", async () => {
  const photo = await portrait();
  const worker = new Worker(new URL("../../pipeline/worker.ts", import.meta.url), { type: "module" });
  const inference = new InferenceClient(worker, settings);
  assert.equal(inference.ready, false);
  await inference.loaded;
  assert.equal(inference.ready, true);
  const running = inference.generate(smallRequest(photo, { numInferenceSteps: 100 }));
  const rejected = codeOf(running);
  worker.postMessage({ type: "nonsense" });
  assert.equal(await rejected, "worker_failed");
  assert.equal(inference.ready, false);
  assert.equal(await codeOf(inference.checkFace(photo)), "worker_failed");
  await inference.close();
});

Deno.test("a bundle that cannot be loaded is told, with the reason", async () => {
  const error = await startInference({ ...settings, bundle: "/nowhere" }).catch((error) => error);
  assert.ok(error instanceof PipelineError);
  assert.equal(error.code, "worker_failed");
  assert.match(error.message, /bundle\.json/);
});
