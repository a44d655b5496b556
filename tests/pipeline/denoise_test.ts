import assert from "node:assert/strict";
import type { UnetInput } from "../../models/unet.ts";
import type { Conditioning } from "../../pipeline/conditioning.ts";
import { Denoiser, type Draft, isDenoised, startDraft } from "../../pipeline/denoise.ts";
import { type GuidanceSchedule, rowKinds } from "../../pipeline/guidance.ts";
import { TorchGenerator } from "../../pipeline/noise.ts";
import { createScheduler } from "../../pipeline/schedulers/create_scheduler.ts";
import { NoiseLevels } from "../../pipeline/schedulers/noise_levels.ts";
import { schedulerConfigSchema } from "../../pipeline/schedulers/scheduler_config.ts";

const config = schedulerConfigSchema.parse({
  beta_schedule: "scaled_linear",
  prediction_type: "v_prediction",
  timestep_spacing: "trailing",
  rescale_betas_zero_snr: true,
});
const latentDims = [4, 2, 3];
const inputs: UnetInput[] = [];

/** Stands in for the UNet: each row of what it gives hangs on all that this row was told, and on no other row. */
function fakeUnet(input: UnetInput) {
  inputs.push(input);
  const { sample, timestep, identity_strength: strength } = input;
  const rows = timestep.data.length;
  const length = sample.data.length / rows;
  const told = [input.encoder_hidden_states, input.identity_tokens].map(({ data }) =>
    Array.from({ length: rows }, (_, row) => {
      const own = data.subarray(row * data.length / rows, (row + 1) * data.length / rows);
      return own.reduce((sum, value) => sum + value, 0);
    })
  );
  const data = sample.data.map((value, index) => {
    const row = Math.floor(index / length);
    return 0.3 * value + 0.01 * told[0]![row]! + 0.01 * strength.data[row]! * told[1]![row]! +
      timestep.data[row]! / 5000;
  });
  return Promise.resolve({ data, dims: sample.dims });
}

/** A person's picture; persons differ in tokens, guidance, strength and sampler. */
function draftOf(person: number): Draft {
  const early = { untilTimestep: 800, scale: 4, identityScale: person % 2 === 0 ? 1.3 : null };
  const guidance: GuidanceSchedule = { scale: 2, identityScale: null, rescale: 0.5, early };
  const kinds = rowKinds(guidance);
  const generator = new TorchGenerator(person);
  const tensor = (...dims: number[]) => ({
    data: generator.randn(dims.reduce((one, two) => one * two)),
    dims,
  });
  const tokens = 3 + person % 3;
  const conditioning: Conditioning = {
    kinds,
    encoder_hidden_states: tensor(kinds.length, 5, 8),
    identity_tokens: tensor(kinds.length, tokens, 8),
    identity_token_bias: tensor(kinds.length, tokens),
  };
  return startDraft(person, {
    createScheduler: (generator) =>
      createScheduler(person % 2 === 0 ? "euler_restart" : "unipc", config, 5 + person, generator),
    noiseLevels: new NoiseLevels(config),
    conditioning,
    guidance,
    identityStrength: 0.5 + 0.1 * person,
    latentDims,
    cacheInterval: 1,
  });
}

const newDenoiser = () => new Denoiser({ unet: fakeUnet, cachedUnet: undefined });

async function alone(person: number): Promise<Float32Array> {
  const draft = draftOf(person);
  while (!isDenoised(draft)) await newDenoiser().step([draft]);
  return draft.sample;
}

Deno.test("a picture is the same to the last bit alone and among others that come and leave", async () => {
  const denoiser = newDenoiser();
  const drafts = [0, 1, 2, 3, 4].map(draftOf);
  const isRunning = (draft: Draft, tick: number) => drafts.indexOf(draft) <= tick && !isDenoised(draft);
  for (let tick = 0; drafts.some((draft) => !isDenoised(draft)); tick++) {
    await denoiser.step(drafts.filter((draft) => isRunning(draft, tick)));
  }
  for (const [person, { sample }] of drafts.entries()) {
    assert.deepEqual(sample, await alone(person), `person ${person}`);
  }
});

Deno.test("a denoiser keeps its memory from step to step, and forgets all that it holds of a person when told to", async () => {
  const denoiser = newDenoiser();
  const draft = draftOf(0);
  inputs.length = 0;
  for (let step = 0; step < 3; step++) await denoiser.step([draft]);
  denoiser.forget();
  while (!isDenoised(draft)) await denoiser.step([draft]);
  for (const name of ["sample", "encoder_hidden_states", "identity_tokens", "identity_token_bias"] as const) {
    const buffers = inputs.map((input) => input[name].data.buffer);
    assert.equal(buffers[2], buffers[1], name);
    assert.notEqual(buffers[3], buffers[2], name);
  }
  assert.deepEqual(draft.sample, await alone(0));
});
