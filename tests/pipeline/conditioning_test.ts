import assert from "node:assert/strict";
import { rowOf } from "../../models/tensor.ts";
import { loadUnet, type UnetInput } from "../../models/unet.ts";
import { type ConditioningRows, selectRows, stackConditionings } from "../../pipeline/conditioning.ts";
import { TorchGenerator } from "../../pipeline/noise.ts";
import { maxDifference } from "../read_fixture.ts";
import { realBundle, sessionSettings } from "../real_bundle.ts";

/** Random conditioning of a person with so many tokens. */
function conditioning(tokens: number, seed: number): ConditioningRows {
  const generator = new TorchGenerator(seed);
  const tensor = (...dims: number[]) => ({
    data: generator.randn(dims.reduce((one, two) => one * two)),
    dims,
  });
  return {
    encoder_hidden_states: tensor(1, 48, 256),
    identity_tokens: tensor(1, tokens, 256),
    identity_token_bias: tensor(1, tokens),
  };
}

Deno.test("rows are taken by what they are told", () => {
  const rows = ["unconditional", "words", "conditional"] as const;
  const parts = rows.map((_, index) => conditioning(3, index));
  const all = { ...stackConditionings(parts), kinds: rows };
  const some = selectRows(all, ["unconditional", "conditional"]);
  assert.deepEqual(some, {
    ...stackConditionings([parts[0]!, parts[2]!]),
    kinds: ["unconditional", "conditional"],
  });
  assert.equal(selectRows(all, [...rows]), all);
  assert.throws(() => selectRows(some, ["words"]), RangeError);
});

Deno.test("people of different numbers of tokens share a run, and none notices", async () => {
  const { manifest, folder } = await realBundle();
  const { channels, size } = manifest.latent;
  const { unet } = await loadUnet({ manifest, folder }, sessionSettings);
  const input = (part: ConditioningRows): UnetInput => {
    const rows = part.identity_tokens.dims[0]!;
    const sample = new TorchGenerator(9).randn(channels * size * size);
    return {
      ...part,
      sample: {
        data: Float32Array.from({ length: rows * sample.length }, (_, i) => sample[i % sample.length]!),
        dims: [rows, channels, size, size],
      },
      timestep: { data: new Float32Array(rows).fill(500), dims: [rows] },
      identity_strength: { data: new Float32Array(rows).fill(1), dims: [rows] },
    };
  };
  const people = [conditioning(40, 1), conditioning(76, 2), conditioning(40, 3)];
  const stacked = stackConditionings(people);
  assert.deepEqual(stacked.identity_tokens.dims, [3, 76, 256]);
  assert.deepEqual(stacked.identity_token_bias.dims, [3, 76]);
  const together = await unet(input(stacked));
  for (const [index, person] of people.entries()) {
    const alone = await unet(input(person));
    assert.ok(maxDifference(rowOf(together, index).data, alone.data) < 1e-5);
  }
  assert.deepEqual(stackConditionings(people.slice(0, 1)), people[0]);
});
