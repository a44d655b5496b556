import assert from "node:assert/strict";
import { InferenceClient, startInference } from "../../pipeline/client.ts";
import { decodePhoto } from "../../pipeline/photo.ts";
import type { Inference } from "../../pipeline/inference.ts";
import type { Tick } from "../../pipeline/messages.ts";
import { type GenerateProgress, PipelineError } from "../../pipeline/protocol.ts";
import { maxDifference } from "../read_fixture.ts";
import { bundleFolder, portrait, sessionSettings, smallRequest } from "../real_bundle.ts";

const settings = { bundle: bundleFolder, ...sessionSettings, maxBatch: 4, maxQueue: 3 };

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
    onEvent: (event) => {
      if (event.type !== "progress") return;
      progress.push(event.progress);
      if (event.progress.stage === "denoise" && event.progress.step === count) resolve();
    },
  });
  output.catch(() => {});
  return { reached, output, progress };
}

Deno.test("the worker", async (t) => {
  const photo = await portrait();
  const ticks: Tick[] = [];
  const inference = await startInference({
    ...settings,
    onMeasured: (measurements) => ticks.push(...measurements.ticks),
  });
  assert.equal(inference.ready, true);
  assert.deepEqual(inference.load, { running: 0, waiting: 0, maxBatch: 4, maxQueue: 3 });

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

  await t.step("cancels a running generation without touching the others", async () => {
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

  await t.step("tells why a generation was ended, when the signal says so", async () => {
    const controller = new AbortController();
    const long = smallRequest(photo, { numInferenceSteps: 100 });
    const running = afterSteps(inference, long, 1, controller.signal);
    await running.reached;
    controller.abort(new PipelineError("deadline_exceeded", "It took too long"));
    assert.equal(await codeOf(running.output), "deadline_exceeded");
    assert.equal(
      await codeOf(inference.generate(smallRequest(photo), { signal: AbortSignal.abort() })),
      "canceled",
    );
  });

  await t.step("takes as many as may run and wait, and cancels what still waits", async () => {
    const controllers = Array.from({ length: 7 }, () => new AbortController());
    const long = smallRequest(photo, { numInferenceSteps: 100 });
    const running = controllers.slice(0, 4).map(({ signal }) => afterSteps(inference, long, 1, signal));
    await Promise.all(running.map(({ reached }) => reached));
    const waiting = controllers.slice(4).map(({ signal }) => codeOf(inference.generate(long, { signal })));
    assert.deepEqual(inference.load, { running: 4, waiting: 3, maxBatch: 4, maxQueue: 3 });
    const refused = await inference.generate(long).catch((error) => error);
    assert.equal(refused.code, "queue_full");
    assert.equal(refused.details.limit, 7);
    assert.ok(refused.details.retry_after_seconds >= 1);
    controllers[5]!.abort();
    assert.equal(await waiting[1], "canceled");
    assert.deepEqual([inference.load.running, inference.load.waiting], [4, 2]);
    assert.ok(running.every(({ progress }) => progress.at(-1)!.step < 100), "nobody had to end first");
    for (const controller of controllers) controller.abort();
    const codes = await Promise.all([...running.map(({ output }) => codeOf(output)), ...waiting]);
    assert.deepEqual(new Set(codes), new Set(["canceled"]));
    assert.deepEqual([inference.load.running, inference.load.waiting], [0, 0]);
  });

  await t.step("requests at once each get their own picture", async () => {
    const requests = [1, 2, 3].map((seed) => smallRequest(photo, { seed }));
    ticks.length = 0;
    const together = await Promise.all(requests.map((request) => inference.generate(request)));
    assert.ok(Math.max(...ticks.map(({ pictures }) => pictures)) > 1, "they shared steps");
    const alone = await inference.generate(requests[1]!);
    const pixels = await Promise.all(
      [...together, alone].map(async ({ images }) => (await decodePhoto(images[0]!.data)).data),
    );
    assert.deepEqual(together.map(({ images }) => images[0]!.seed), [1, 2, 3]);
    assert.ok(maxDifference(pixels[1]!, pixels[3]!) <= 1);
    assert.ok(maxDifference(pixels[0]!, pixels[1]!) > 0);
  });

  await t.step("a request that cannot be run fails alone, and the worker goes on", async () => {
    const running = afterSteps(inference, smallRequest(photo, { numInferenceSteps: 30 }), 1);
    await running.reached;
    // more than the model was trained with: the routes refuse it before
    const impossible = smallRequest(photo, { scheduler: "ddim", numInferenceSteps: 5000 });
    assert.equal(await codeOf(inference.generate(impossible)), "internal_error");
    assert.equal(inference.ready, true);
    assert.equal((await running.output).images.length, 1);
    assert.equal((await inference.generate(smallRequest(photo))).images.length, 1);
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
  let deaths = 0;
  const inference = new InferenceClient(worker, { ...settings, onDied: () => deaths++ });
  assert.equal(inference.ready, false);
  await inference.loaded;
  assert.equal(inference.ready, true);
  const running = inference.generate(smallRequest(photo, { numInferenceSteps: 100 }));
  const rejected = codeOf(running);
  worker.postMessage({ type: "nonsense" });
  assert.equal(await rejected, "worker_failed");
  assert.equal(inference.ready, false);
  assert.equal(await codeOf(inference.checkFace(photo)), "worker_failed");
  assert.equal(deaths, 1);
  await inference.close();
  assert.equal(deaths, 1);
});

Deno.test("a bundle that cannot be loaded is told, with the reason", async () => {
  const error = await startInference({ ...settings, bundle: "/nowhere" }).catch((error) => error);
  assert.ok(error instanceof PipelineError);
  assert.equal(error.code, "worker_failed");
  assert.match(error.message, /bundle\.json/);
});
