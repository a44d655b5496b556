/** The engine with the real model: who shares steps with whom, and that nobody's picture shows it. */

import assert from "node:assert/strict";
import type { UnetInput } from "../../models/unet.ts";
import { Engine, type EngineSettings } from "../../pipeline/engine.ts";
import { decodePhoto } from "../../pipeline/photo.ts";
import { loadPipeline, type Pipeline } from "../../pipeline/pipeline.ts";
import { type GenerateInput, type GenerateOutput, PipelineError } from "../../pipeline/protocol.ts";
import { psnr } from "../../bench/shared/psnr.ts";
import { maxDifference } from "../read_fixture.ts";
import { bundleFolder, portrait, sessionSettings, smallRequest } from "../real_bundle.ts";

let loading: Promise<Pipeline> | undefined;
/** Loaded once: it is the slowest part. */
const pipelineOnce = () => loading ??= loadPipeline(bundleFolder, sessionSettings);

/** An engine that writes down how many pictures shared each step. */
async function startEngine(maxBatch: number, settings: Partial<EngineSettings> = {}) {
  const batches: number[] = [];
  const engine = new Engine(await pipelineOnce(), {
    maxBatch,
    onTick: ({ pictures }) => batches.push(pictures),
    ...settings,
  });
  return { engine, batches };
}

async function pixelsOf({ images }: GenerateOutput): Promise<Uint8Array[]> {
  return await Promise.all(images.map(async ({ data }) => (await decodePhoto(data)).data));
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(() => assert.fail("was answered"), (error) => error);
  assert.ok(error instanceof PipelineError, String(error));
  return error.code;
}

/** Starts a generation; `at(step)` resolves when it has taken that many, `log` is all that was told of it. */
function follow(engine: Engine, input: GenerateInput, signal?: AbortSignal) {
  const log: string[] = [];
  const marks = new Map<string, PromiseWithResolvers<void>>();
  const mark = (name: string) => {
    if (!marks.has(name)) marks.set(name, Promise.withResolvers());
    return marks.get(name)!;
  };
  const output = engine.generate(input, {
    ...(signal === undefined ? {} : { signal }),
    onEvent: (event) => {
      const { stage, step } = event.type === "progress" ? event.progress : { stage: event.type, step: 0 };
      const name = stage === "denoise" ? `denoise ${step}` : stage;
      log.push(name);
      mark(name).resolve();
    },
  });
  output.catch(() => {});
  return { output, log, reached: (name: string) => mark(name).promise };
}

Deno.test("pictures do not depend on who shares the batch: guidance, scheduler, steps, strength and seeds mixed", async () => {
  const photo = await portrait();
  const requests = [
    smallRequest(photo, { seed: 1, numInferenceSteps: 6 }),
    smallRequest(photo, { seed: 2, guidanceScale: 1 }),
    smallRequest(photo, { seed: 3, scheduler: "euler", guidanceScale: 6, numInferenceSteps: 3 }),
    smallRequest(photo, { seed: 4, scheduler: "ddim", identityStrength: 0.3, negativePrompt: "a hat" }),
    smallRequest(photo, { seed: 5, prompt: "an old man with a beard", classNoun: "man", numImages: 3 }),
    smallRequest(photo, { seed: 6, cacheInterval: 2, numInferenceSteps: 6 }),
    smallRequest(photo, { seed: 8, earlyGuidance: { untilTimestep: 600, scale: 4, identityScale: 1 } }),
    smallRequest(photo, { seed: 7, cacheInterval: 3, guidanceScale: 1, numInferenceSteps: 5 }),
  ];
  const alone = await startEngine(1);
  const expected: Uint8Array[][] = [];
  for (const request of requests) expected.push(await pixelsOf(await alone.engine.generate(request)));
  assert.ok(alone.batches.every((pictures) => pictures === 1));
  for (const maxBatch of [8, 5]) {
    const { engine, batches } = await startEngine(maxBatch);
    const together = await Promise.all(requests.map((request) => engine.generate(request)));
    assert.ok(batches.filter((pictures) => pictures > 1).length >= 3, `they shared steps: ${batches}`);
    assert.ok(batches.every((pictures) => pictures <= maxBatch));
    for (const [index, output] of together.entries()) {
      const actual = await pixelsOf(output);
      for (const [picture, pixels] of actual.entries()) {
        const difference = maxDifference(pixels, expected[index]![picture]!);
        assert.ok(difference <= 1, `request ${index}, picture ${picture}: ${difference} levels`);
      }
    }
  }
});

/** The real model, which writes down what was run of the UNet, and of how many rows. */
async function countingPipeline(): Promise<{ pipeline: Pipeline; runs: string[] }> {
  const pipeline = await pipelineOnce();
  const { models } = pipeline;
  const { full, shallow } = await models.cachedUnet!();
  const runs: string[] = [];
  const count = (name: string, { timestep }: UnetInput) => void runs.push(`${name} ${timestep.dims[0]}`);
  return {
    runs,
    pipeline: {
      ...pipeline,
      models: {
        ...models,
        unet: (input) => (count("unet", input), models.unet(input)),
        cachedUnet: () =>
          Promise.resolve({
            full: (input) => (count("full", input), full(input)),
            shallow: (input) => (count("shallow", input), shallow(input)),
          }),
      },
    },
  };
}

Deno.test("a step runs the rows that count in it alone, and all of the UNet where others were kept", async () => {
  const photo = await portrait();
  const { pipeline, runs } = await countingPipeline();
  const engine = new Engine(pipeline, { maxBatch: 4 });
  const asked = (cacheInterval: number) =>
    smallRequest(photo, {
      numInferenceSteps: 6,
      cacheInterval,
      guidanceScale: 2,
      earlyGuidance: { untilTimestep: 800, scale: 4, identityScale: 1 },
    });
  // at 999 and 833 words and person have scales of their own
  await engine.generate(asked(1));
  assert.equal(runs.join(), "unet 3,unet 3,unet 2,unet 2,unet 2,unet 2");
  runs.length = 0;
  await engine.generate(asked(3));
  assert.equal(runs.join(), "full 3,shallow 3,full 2,full 2,shallow 2,shallow 2");
});

Deno.test("steps that go on from earlier ones run a part of the UNet, and come near to what all of it gives", async () => {
  const photo = await portrait();
  const { pipeline, runs } = await countingPipeline();
  const engine = new Engine(pipeline, { maxBatch: 4 });
  const draw = async (cacheInterval: number) => {
    runs.length = 0;
    const [pixels] = await pixelsOf(
      await engine.generate(smallRequest(photo, { numInferenceSteps: 8, cacheInterval })),
    );
    return pixels!;
  };
  const whole = await draw(1);
  assert.deepEqual(runs, new Array(8).fill("unet 2"));
  const pixels = await draw(3);
  assert.equal(
    runs.join(),
    "full 2,shallow 2,shallow 2,full 2,shallow 2,shallow 2,full 2,shallow 2",
  );
  const decibels = psnr(pixels, whole);
  assert.ok(decibels > 15 && decibels < 60, `${decibels} dB`);
  const nearer = psnr(await draw(2), whole);
  assert.ok(nearer > decibels, `${nearer} dB with every other step, ${decibels} dB with every third`);
});

Deno.test("a run that fails takes nobody along whose own rows do not fail", async () => {
  const photo = await portrait();
  const pipeline = await pipelineOnce();
  const requests = [1, 2, 3].map((seed) =>
    smallRequest(photo, { seed, identityStrength: seed === 2 ? 0.5 : 1 })
  );
  const expected = await Promise.all(requests.map(async (request) => {
    const [pixels] = await pixelsOf(await new Engine(pipeline, { maxBatch: 1 }).generate(request));
    return pixels!;
  }));
  const rows: number[] = [];
  const { unet } = pipeline.models;
  const engine = new Engine({
    ...pipeline,
    models: {
      ...pipeline.models,
      unet: (input) => {
        rows.push(input.timestep.data.length);
        if (input.identity_strength.data.includes(0.5)) return Promise.reject(new Error("out of memory"));
        return unet(input);
      },
    },
  }, { maxBatch: 3 });
  const ends = await Promise.allSettled(requests.map((request) => engine.generate(request)));
  assert.ok(rows.some((count) => count > 2), `they shared runs: ${rows}`);
  assert.deepEqual(ends.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  for (const [index, end] of ends.entries()) {
    if (end.status === "rejected") {
      assert.equal(end.reason.message, "out of memory");
    } else {
      const [pixels] = await pixelsOf(end.value);
      assert.ok(maxDifference(pixels!, expected[index]!) <= 1);
    }
  }
  // and the engine goes on
  assert.equal((await engine.generate(requests[0]!)).images.length, 1);
});

Deno.test("an engine that denoises nobody keeps nothing of the last person, though photos are checked all the time", async () => {
  const photo = await portrait();
  const pipeline = await pipelineOnce();
  const buffers: ArrayBufferLike[] = [];
  const { unet } = pipeline.models;
  const engine = new Engine({
    ...pipeline,
    models: {
      ...pipeline.models,
      unet: (input) => (buffers.push(input.identity_tokens.data.buffer), unet(input)),
    },
  }, { maxBatch: 1 });
  let over = false;
  const check = (): Promise<void> =>
    engine.soon(() => Promise.resolve()).then(() => over ? undefined : check());
  const checks = check();
  for (const seed of [1, 2]) await engine.generate(smallRequest(photo, { seed, numInferenceSteps: 3 }));
  over = true;
  await checks;
  assert.equal(buffers.length, 6);
  assert.deepEqual(buffers.map((buffer) => buffers.indexOf(buffer)), [0, 0, 0, 3, 3, 3]);
});

Deno.test("the graphs of cached steps are loaded between two steps, and asked for again when that failed", async () => {
  const photo = await portrait();
  const pipeline = await pipelineOnce();
  const events: string[] = [];
  const { unet, cachedUnet } = pipeline.models;
  const engine = new Engine({
    ...pipeline,
    models: {
      ...pipeline.models,
      unet: (input) => (events.push("step"), unet(input)),
      cachedUnet: () => {
        events.push("load");
        return events.filter((name) => name === "load").length === 1
          ? Promise.reject(new Error("no memory"))
          : cachedUnet!();
      },
    },
  }, { maxBatch: 2 });
  const other = follow(engine, smallRequest(photo, { numInferenceSteps: 60 }));
  await other.reached("denoise 1");
  const cached = smallRequest(photo, { cacheInterval: 2 });
  await assert.rejects(engine.generate(cached), /no memory/);
  assert.ok(!other.log.includes("decode"), "the other is still under way");
  assert.equal((await engine.generate(cached)).images.length, 1);
  assert.equal((await other.output).images.length, 1);
});

Deno.test("a newcomer joins what is running, and a short one does not wait for a long one", async () => {
  const photo = await portrait();
  const { engine, batches } = await startEngine(4);
  const long = follow(engine, smallRequest(photo, { numInferenceSteps: 60 }));
  await long.reached("denoise 2");
  await engine.generate(smallRequest(photo, { numInferenceSteps: 2 }));
  assert.ok(!long.log.includes("decode"), "the long one is still denoising");
  assert.ok(batches.includes(2), "they shared steps");
  assert.equal((await long.output).images.length, 1);
});

Deno.test("more pictures than places: every one gets done, the first are finished early, a second caller is let in", async () => {
  const photo = await portrait();
  const { engine, batches } = await startEngine(2);
  const many = follow(engine, smallRequest(photo, { numImages: 5, numInferenceSteps: 4 }));
  await many.reached("denoise 1");
  const one = follow(engine, smallRequest(photo, { numInferenceSteps: 2 }));
  await one.output;
  assert.ok(
    many.log.filter((name) => name === "image").length < 5,
    "the second caller did not wait for all five",
  );
  const { images } = await many.output;
  assert.deepEqual(images.map(({ index, seed }) => [index, seed]), [[0, 11], [1, 12], [2, 13], [3, 14], [
    4,
    15,
  ]]);
  assert.equal(batches.reduce((sum, pictures) => sum + pictures, 0), 5 * 4 + 2);
  assert.ok(batches.every((pictures) => pictures <= 2));
  const steps = many.log.filter((name) => name.startsWith("denoise"));
  assert.deepEqual(steps, ["denoise 0", "denoise 1", "denoise 2", "denoise 3", "denoise 4"]);
  assert.ok(
    many.log.indexOf("image") < many.log.indexOf("decode"),
    "a finished picture did not wait for the rest",
  );
});

Deno.test("generations begin in the order they came, as many at once as the batch has places", async () => {
  const photo = await portrait();
  const { engine } = await startEngine(1);
  const order: number[] = [];
  const inputs = [1, 2, 3, 4].map((seed) => smallRequest(photo, { seed, numInferenceSteps: 1 }));
  await Promise.all(inputs.map(async (input) => {
    const { reached, output } = follow(engine, input);
    await reached("started");
    order.push(input.seed);
    await output;
  }));
  assert.deepEqual(order, [1, 2, 3, 4]);
});

Deno.test("a place in the queue is free again when a running one is canceled, at most two steps later", async () => {
  const photo = await portrait();
  const controller = new AbortController();
  const { engine, batches } = await startEngine(1);
  const running = follow(engine, smallRequest(photo, { numInferenceSteps: 90 }), controller.signal);
  const waiting = follow(engine, smallRequest(photo, { numInferenceSteps: 1 }));
  await running.reached("denoise 3");
  assert.deepEqual(waiting.log, []);
  const before = batches.length;
  controller.abort();
  await waiting.reached("started");
  assert.ok(batches.length - before <= 2, `${batches.length - before} steps`);
  assert.equal(await codeOf(running.output), "canceled");
  await waiting.output;
});

Deno.test("a generation canceled in the queue never begins, one that is refused frees its place", async () => {
  const photo = await portrait();
  const controller = new AbortController();
  const { engine } = await startEngine(1);
  const running = follow(engine, smallRequest(photo, { numInferenceSteps: 5 }));
  const gone = follow(engine, smallRequest(photo), controller.signal);
  const refused = engine.generate(smallRequest(new Uint8Array(9)));
  const last = engine.generate(smallRequest(photo, { numInferenceSteps: 1 }));
  controller.abort();
  assert.equal(await codeOf(gone.output), "canceled");
  assert.ok(!running.log.includes("decode"));
  assert.deepEqual(gone.log, []);
  assert.equal(await codeOf(refused), "image_not_decodable");
  assert.equal((await last).images.length, 1);
  assert.equal((await running.output).images.length, 1);
});

Deno.test("other stages go between two steps, never more than one", async () => {
  const photo = await portrait();
  const { engine, batches } = await startEngine(2);
  const controller = new AbortController();
  const running = follow(engine, smallRequest(photo, { numInferenceSteps: 90 }), controller.signal);
  await running.reached("denoise 1");
  const steps: number[] = [];
  await Promise.all(Array.from({ length: 4 }, () =>
    engine.soon(() => {
      steps.push(batches.length);
      return Promise.resolve();
    })));
  const [first] = steps as [number];
  assert.deepEqual(steps, [first, first + 1, first + 2, first + 3]);
  controller.abort();
  assert.equal(await codeOf(running.output), "canceled");
});
