/** Before the first caller comes: which shapes the UNet has been run in. */

import assert from "node:assert/strict";
import { zeros } from "../../models/tensor.ts";
import type { UnetInput } from "../../models/unet.ts";
import { defaultGuidance, rowKinds } from "../../pipeline/guidance.ts";
import { loadPipeline, type Pipeline } from "../../pipeline/pipeline.ts";
import { warmUp } from "../../pipeline/warm_up.ts";
import { bundleFolder, sessionSettings } from "../real_bundle.ts";

/** The real model, which writes down how many rows each run of the UNet has. */
async function recordedPipeline(): Promise<{ pipeline: Pipeline; rows: Record<string, number[]> }> {
  const pipeline = await loadPipeline(bundleFolder, sessionSettings);
  const { models } = pipeline;
  const rows: Record<string, number[]> = { unet: [], full: [], shallow: [] };
  const note = (name: string, { sample }: UnetInput) => rows[name]!.push(sample.dims[0]!);
  const cached = await models.cachedUnet!();
  return {
    rows,
    pipeline: {
      ...pipeline,
      models: {
        ...models,
        unet: (input) => (note("unet", input), models.unet(input)),
        cachedUnet: () =>
          Promise.resolve({
            full: (input) => (note("full", input), cached.full(input)),
            shallow: (input) => (note("shallow", input), cached.shallow(input)),
          }),
      },
    },
  };
}

Deno.test("where every shape is searched anew, every number of rows a batch can have is run, cached steps too", async () => {
  const { pipeline, rows } = await recordedPipeline();
  assert.equal(await warmUp(pipeline, { provider: "cuda", maxBatch: 2 }), 2);
  // Two pictures with scales of their own for words and person have three rows each.
  assert.deepEqual(rows.full, [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(rows.shallow, rows.full);
});

Deno.test("on the CPU batches of the bundle's own guidance are run, up to the largest", async () => {
  const { pipeline, rows } = await recordedPipeline();
  const each = rowKinds(defaultGuidance(pipeline.manifest.defaults)).length;
  assert.equal(await warmUp(pipeline, { provider: "cpu", maxBatch: 3 }), 3);
  assert.deepEqual(rows, { unet: [1, each, 2 * each, 3 * each], full: [], shallow: [] });
});

Deno.test("a bundle whose quiet_patches name a patch that no photo has does not start", async () => {
  const pipeline = await loadPipeline(bundleFolder, sessionSettings);
  const { patch_features } = await pipeline.models.imageEncoder(
    zeros([1, 3, ...Array(2).fill(pipeline.manifest.faces.image_encoder.input_size)]),
  );
  const count = patch_features.dims[1]!;
  const start = (...patches: number[]) => {
    const quiet = [{ words: ["sad"], patches, bias: -4 }];
    const manifest = { ...pipeline.manifest, quiet_patches: quiet };
    return warmUp({ ...pipeline, manifest }, { provider: "cpu", maxBatch: 1 });
  };
  await start(0, count - 1);
  await assert.rejects(start(0, count), { name: "BundleError", code: "manifest_invalid" });
});
