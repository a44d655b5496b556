import assert from "node:assert/strict";
import sharp from "sharp";
import { DIGITAL_SOURCE_TYPE } from "../../pipeline/encode_image.ts";
import { generate } from "../../pipeline/generate.ts";
import { decodePhoto } from "../../pipeline/photo.ts";
import { loadPipeline, type Pipeline } from "../../pipeline/pipeline.ts";
import { type GenerateInput, PipelineError, type SchedulerName } from "../../pipeline/protocol.ts";
import { fixtureUrl, maxDifference } from "../read_fixture.ts";
import { bundleFolder, portrait, sessionSettings, smallRequest } from "../real_bundle.ts";

/** What the PyTorch reference was asked; written by training's exporter beside the picture it gave. */
interface ReferenceCase {
  photo: string;
  prompt: string;
  class_noun: string;
  negative_prompt: string;
  num_inference_steps: number;
  guidance_scale: number;
  identity_guidance_scale: number | null;
  early_guidance_scale: number | null;
  early_identity_guidance_scale: number | null;
  early_guidance_until: number;
  guidance_rescale: number;
  identity_strength: number;
  pose_variation: number;
  scheduler: SchedulerName;
  cache_interval: number;
  seed: number;
  expected: string;
}

let loading: Promise<Pipeline> | undefined;
/** Loaded once: it is the slowest part. */
const pipelineOnce = () => loading ??= loadPipeline(bundleFolder, sessionSettings);

/** The pixels of a request's pictures. */
async function pixels(input: GenerateInput): Promise<Uint8Array[]> {
  const { images } = await generate(await pipelineOnce(), input);
  return Promise.all(images.map(async ({ data }) => (await decodePhoto(data)).data));
}

async function assertRefused(input: GenerateInput, code: string): Promise<PipelineError> {
  const error = await generate(await pipelineOnce(), input).then(
    () => assert.fail(`made a portrait, expected ${code}`),
    (error) => error,
  );
  assert.ok(error instanceof PipelineError, String(error));
  assert.equal(error.code, code);
  return error;
}

Deno.test({
  name: "whole pipeline: every pixel within 2 of PyTorch's",
  // The reference pictures belong to the embedded bundle; for another one, REFERENCE is the path of a folder with its own.
  ignore: Deno.env.get("BUNDLE") !== undefined && Deno.env.get("REFERENCE") === undefined,
  fn: async (t) => {
    const folder = new URL(Deno.env.get("REFERENCE") ?? "reference/", fixtureUrl(""));
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
      /^case.*\.json$/.test(name)
    );
    assert.ok(names.length > 0, "there are reference cases");
    for (const name of names.sort()) {
      await t.step(name, async () => {
        const reference: ReferenceCase = JSON.parse(await Deno.readTextFile(new URL(name, folder)));
        const [actual] = await pixels({
          referenceImages: [await Deno.readFile(new URL(reference.photo, folder))],
          prompt: reference.prompt,
          classNoun: reference.class_noun,
          negativePrompt: reference.negative_prompt,
          numImages: 1,
          numInferenceSteps: reference.num_inference_steps,
          guidanceScale: reference.guidance_scale,
          identityGuidanceScale: reference.identity_guidance_scale,
          earlyGuidance: {
            untilTimestep: reference.early_guidance_until,
            scale: reference.early_guidance_scale ?? reference.guidance_scale,
            identityScale: reference.early_identity_guidance_scale ?? reference.identity_guidance_scale,
          },
          guidanceRescale: reference.guidance_rescale,
          identityStrength: reference.identity_strength,
          poseVariation: reference.pose_variation,
          scheduler: reference.scheduler,
          cacheInterval: reference.cache_interval,
          seed: reference.seed,
          outputFormat: "png",
        });
        const expected = await decodePhoto(await Deno.readFile(new URL(reference.expected, folder)));
        const difference = maxDifference(actual!, expected.data);
        assert.ok(difference <= 2, `${difference} levels`);
      });
    }
  },
});

Deno.test("a request gives its pictures, their seeds and what it took", async () => {
  const { manifest: { image_size: side } } = await pipelineOnce();
  const stages: string[] = [];
  const told: string[] = [];
  const photo = await portrait();
  const output = await generate(await pipelineOnce(), smallRequest(photo, { numImages: 2, seed: 100 }), {
    onEvent: (event) => {
      if (event.type !== "progress") return void told.push(event.type);
      const { stage, step, steps } = event.progress;
      stages.push(`${stage} ${step}/${steps}`);
    },
  });
  assert.deepEqual(stages, [
    "references 0/0",
    "prompt 0/0",
    ...[0, 1, 2, 3, 4].map((step) => `denoise ${step}/4`),
    "decode 4/4",
    "encode 4/4",
  ]);
  assert.deepEqual(told, ["started", "image", "image"]);
  assert.deepEqual(output.images.map(({ index, seed }) => [index, seed]), [[0, 100], [1, 101]]);
  for (const { width, height, contentType, identitySimilarity, data } of output.images) {
    assert.deepEqual([width, height, contentType], [side, side, "image/png"]);
    const decoded = await sharp(data).metadata();
    assert.deepEqual([decoded.format, decoded.width, decoded.height], ["png", side, side]);
    if (identitySimilarity !== null) assert.ok(Math.abs(identitySimilarity) <= 1);
  }
  const { total, ...parts } = output.timings;
  const sum = Object.values(parts).reduce((one, other) => one + other, 0);
  assert.ok(Math.abs(total - sum) < 1e-6 && Object.values(parts).every((seconds) => seconds >= 0));
});

Deno.test("a seed gives one picture, alone or among others", async () => {
  const photo = await portrait();
  const [, second, third] = await pixels(smallRequest(photo, { numImages: 3, seed: 5 }));
  const [alone] = await pixels(smallRequest(photo, { seed: 6 }));
  const [again] = await pixels(smallRequest(photo, { seed: 6 }));
  assert.deepEqual(alone, again);
  assert.ok(maxDifference(alone!, second!) <= 1, "the batch does not matter");
  assert.ok(maxDifference(alone!, third!) > 20, "another seed gives another picture");
});

Deno.test("heads are turned as each picture's seed says, alone or among others", async () => {
  const photo = await portrait();
  const turned = (changes: Partial<GenerateInput>) =>
    pixels(smallRequest(photo, { poseVariation: 20, ...changes }));
  const [straight, left, right] = await turned({ numImages: 3, seed: 0 });
  const [plain, plainLeft, plainRight] = await pixels(smallRequest(photo, { numImages: 3, seed: 0 }));
  // seed 0 turns nobody
  assert.ok(maxDifference(straight!, plain!) <= 1);
  assert.ok(maxDifference(left!, plainLeft!) > 20 && maxDifference(right!, plainRight!) > 20);
  const [alone] = await turned({ seed: 1 });
  assert.ok(maxDifference(alone!, left!) <= 1, "who else is there does not matter");
  const [two] = await turned({ seed: 1, referenceImages: [photo, photo] });
  assert.ok(maxDifference(alone!, two!) <= 1, "every reference is turned");
  const prompt = "a portrait photo, Facing the camera";
  assert.deepEqual(await turned({ seed: 1, prompt }), await pixels(smallRequest(photo, { seed: 1, prompt })));
});

Deno.test("prompt, guidance, identity strength, negative prompt and scheduler each change the picture", async () => {
  const photo = await portrait();
  const [plain] = await pixels(smallRequest(photo));
  const changes: Partial<GenerateInput>[] = [
    { prompt: "a smiling face with a hat" },
    { classNoun: "man" },
    { guidanceScale: 1 },
    { guidanceScale: 6 },
    { identityGuidanceScale: 1 },
    { identityGuidanceScale: 5 },
    { guidanceRescale: 0.7 },
    { earlyGuidance: { untilTimestep: 700, scale: 6, identityScale: null } },
    { earlyGuidance: { untilTimestep: 700, scale: 3, identityScale: 1 } },
    { earlyGuidance: { untilTimestep: 300, scale: 3, identityScale: 1 } },
    { negativePrompt: "a smiling face with a hat" },
    { identityStrength: 0 },
    { scheduler: "euler" },
    { scheduler: "ddim" },
    { scheduler: "euler_ancestral" },
    { scheduler: "euler_restart" },
    { scheduler: "dpmpp_2m_sde" },
    { scheduler: "unipc" },
  ];
  for (const change of changes) {
    const [changed] = await pixels(smallRequest(photo, change));
    assert.ok(maxDifference(plain!, changed!) > 0, JSON.stringify(change));
  }
});

Deno.test("one photo counts as N copies of itself, two are repeated in turn", async () => {
  const { manifest: { max_reference_images: limit } } = await pipelineOnce();
  const photo = await portrait();
  const mirrored = new Uint8Array(await sharp(photo).flop().greyscale().linear(0.5).png().toBuffer());
  const copies = (photos: Uint8Array[]) =>
    Array.from({ length: limit }, (_, i) => photos[i % photos.length]!);
  // Fewer tokens with a bias are the same sum in another order, which may turn the rounding of a pixel.
  const assertSame = (some: Uint8Array[], others: Uint8Array[]) => {
    assert.ok(maxDifference(some[0]!, others[0]!) <= 1);
  };
  const one = await pixels(smallRequest(photo));
  assertSame(await pixels(smallRequest(photo, { referenceImages: copies([photo]) })), one);
  if (limit < 2) return;
  const two = await pixels(smallRequest(photo, { referenceImages: [photo, mirrored] }));
  assertSame(await pixels(smallRequest(photo, { referenceImages: copies([photo, mirrored]) })), two);
  assert.ok(maxDifference(one[0]!, two[0]!) > 1);
});

Deno.test("every format says that the picture is synthetic", async () => {
  const photo = await portrait();
  for (const outputFormat of ["png", "jpeg", "webp"] as const) {
    const output = await generate(await pipelineOnce(), smallRequest(photo, { outputFormat }));
    const [{ data, contentType }] = output.images as [typeof output.images[0]];
    assert.equal(contentType, `image/${outputFormat}`);
    const { format, xmp } = await sharp(data).metadata();
    assert.equal(format, outputFormat);
    assert.match(String(xmp), new RegExp(`DigitalSourceType>${DIGITAL_SOURCE_TYPE}<`));
  }
});

Deno.test("bad input is refused with its own code", async () => {
  const photo = await portrait();
  const { manifest: { max_reference_images: limit } } = await pipelineOnce();
  const blank = sharp({ create: { width: 200, height: 200, channels: 3, background: "grey" } });
  const empty = new Uint8Array(await blank.png().toBuffer());
  await assertRefused(smallRequest(photo, { classNoun: "dragon" }), "class_noun_unknown");
  await assertRefused(smallRequest(photo, { prompt: "  " }), "prompt_empty");
  await assertRefused(smallRequest(photo, { prompt: "hat ".repeat(500) }), "prompt_too_long");
  await assertRefused(smallRequest(photo, { negativePrompt: "hat ".repeat(500) }), "prompt_too_long");
  await assertRefused(smallRequest(photo, { scheduler: "magic" as SchedulerName }), "scheduler_unknown");
  await assertRefused(smallRequest(new Uint8Array(99)), "image_not_decodable");
  const many = Array.from({ length: limit + 1 }, () => photo);
  await assertRefused(smallRequest(photo, { referenceImages: many }), "too_many_reference_images");
  const error = await assertRefused(
    smallRequest(photo, { referenceImages: [photo, empty] }),
    "face_not_found",
  );
  assert.equal(error.details["image"], 1);
});

Deno.test("an aborted signal ends the generation between two steps", async () => {
  const controller = new AbortController();
  let steps = 0;
  const running = generate(await pipelineOnce(), smallRequest(await portrait(), { numInferenceSteps: 50 }), {
    signal: controller.signal,
    onEvent: (event) => {
      if (event.type !== "progress" || event.progress.stage !== "denoise") return;
      steps = event.progress.step;
      if (steps === 3) controller.abort();
    },
  });
  const error = await running.then(() => assert.fail("was finished"), (error) => error);
  assert.equal(error.code, "canceled");
  assert.equal(steps, 3);
});
