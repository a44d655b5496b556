import assert from "node:assert/strict";
import sharp from "sharp";
import { DIGITAL_SOURCE_TYPE } from "../../pipeline/encode_image.ts";
import { generate } from "../../pipeline/generate.ts";
import { loadPipeline } from "../../pipeline/pipeline.ts";
import type { GeneratePreview } from "../../pipeline/protocol.ts";
import { NoiseLevels } from "../../pipeline/schedulers/noise_levels.ts";
import { computePositiveAlphasCumprod } from "../../pipeline/schedulers/noise_schedule.ts";
import { parseSchedulerConfig } from "../../pipeline/schedulers/scheduler_config.ts";
import { maxDifference } from "../read_fixture.ts";
import { bundleFolder, portrait, sessionSettings, smallRequest } from "../real_bundle.ts";

Deno.test("the clean latent is found from a perfect prediction, of noise or of velocity", () => {
  const clean = Float32Array.of(0.3, -1.2, 0.8);
  const noise = Float32Array.of(-0.5, 0.9, 1.7);
  for (const prediction_type of ["epsilon", "v_prediction"] as const) {
    const config = parseSchedulerConfig(JSON.stringify({ prediction_type, beta_schedule: "scaled_linear" }));
    for (const timestep of [1, 500.4, 950]) {
      const kept = computePositiveAlphasCumprod(config)[Math.round(timestep)]!;
      const [alpha, sigma] = [Math.sqrt(kept), Math.sqrt(1 - kept)];
      const input = clean.map((value, i) => alpha * value + sigma * noise[i]!);
      const velocity = noise.map((value, i) => alpha * value - sigma * clean[i]!);
      const prediction = prediction_type === "epsilon" ? noise : velocity;
      const found = new NoiseLevels(config).predictClean({ timestep, input, prediction });
      assert.ok(maxDifference(found, clean) < 1e-4, `${prediction_type} at ${timestep}`);
    }
  }
});

Deno.test("previews come every so many steps, small and synthetic, and grow towards the portrait", async () => {
  const pipeline = await loadPipeline(bundleFolder, sessionSettings);
  const previews: GeneratePreview[] = [];
  const { images } = await generate(
    pipeline,
    smallRequest(await portrait(), { numInferenceSteps: 9, numImages: 2 }),
    {
      previewInterval: 3,
      onEvent: (event) => {
        if (event.type === "preview") previews.push(event.preview);
      },
    },
  );
  const [portrait0] = images as [typeof images[0]];
  const first = previews.filter(({ index }) => index === 0);
  assert.deepEqual(first.map(({ step, steps }) => [step, steps]), [[3, 9], [6, 9]]);
  assert.ok(previews.some(({ index }) => index === 1), "each picture has its own");
  const { width, height } = first[0]!;
  assert.deepEqual([width, height], [portrait0.width / 2, portrait0.height / 2]);
  const target = await sharp(portrait0.data).resize(width, height).raw().toBuffer();
  const distances = await Promise.all(first.map(async ({ data }) => {
    const { format, xmp } = await sharp(data).metadata();
    assert.equal(format, "jpeg");
    assert.match(String(xmp), new RegExp(`DigitalSourceType>${DIGITAL_SOURCE_TYPE}<`));
    const pixels = await sharp(data).raw().toBuffer();
    return pixels.reduce((sum, value, i) => sum + Math.abs(value - target[i]!), 0) / pixels.length;
  }));
  assert.ok(distances[1]! < distances[0]!, `${distances}`);
  assert.ok(distances[1]! < 20, `${distances}`);
});
