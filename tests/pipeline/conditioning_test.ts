import assert from "node:assert/strict";
import { rowOf } from "../../models/tensor.ts";
import { loadUnet, type UnetInput } from "../../models/unet.ts";
import {
  type Conditioning,
  type ConditioningRow,
  type ConditioningRows,
  ConditioningStack,
} from "../../pipeline/conditioning.ts";
import { type GuidanceRowKind } from "../../pipeline/guidance.ts";
import { TorchGenerator } from "../../pipeline/noise.ts";
import { maxDifference } from "../read_fixture.ts";
import { realBundle, sessionSettings } from "../real_bundle.ts";

const everyKind = ["unconditional", "words", "conditional"] as const;

/** Random conditioning of a person with so many tokens. */
function conditioning(
  tokens: number,
  seed: number,
  kinds: readonly GuidanceRowKind[] = ["conditional"],
): Conditioning {
  const generator = new TorchGenerator(seed);
  const tensor = (...dims: number[]) => ({
    data: generator.randn(dims.reduce((one, two) => one * two)),
    dims,
  });
  return {
    kinds,
    encoder_hidden_states: tensor(kinds.length, 48, 256),
    identity_tokens: tensor(kinds.length, tokens, 256),
    identity_token_bias: tensor(kinds.length, tokens),
  };
}

/** The rows one by one, each with its tokens that count. */
function assertRows(stacked: ConditioningRows, rows: readonly ConditioningRow[]): void {
  assert.equal(stacked.identity_tokens.dims[0], rows.length);
  for (const [index, { conditioning, kind }] of rows.entries()) {
    const row = conditioning.kinds.indexOf(kind);
    for (const name of ["encoder_hidden_states", "identity_tokens", "identity_token_bias"] as const) {
      const expected = rowOf(conditioning[name], row).data;
      const found = rowOf(stacked[name], index).data;
      assert.deepEqual(found.subarray(0, expected.length), expected, `${name} of row ${index}`);
      const filler = name === "identity_token_bias" ? -10_000 : 0;
      assert.ok(found.subarray(expected.length).every((value) => value === filler));
    }
  }
}

Deno.test("rows are those of a fresh stack, whoever came, left or is told something else since the run before", () => {
  const [one, two, three] = [
    conditioning(3, 1, everyKind),
    conditioning(3, 2, everyKind),
    conditioning(5, 3),
  ];
  const rowsOf = (conditioning: Conditioning, ...kinds: GuidanceRowKind[]) =>
    kinds.map((kind) => ({ conditioning, kind }));
  const stack = new ConditioningStack();
  for (
    const rows of [
      rowsOf(one, ...everyKind),
      [...rowsOf(one, ...everyKind), ...rowsOf(two, ...everyKind)],
      [...rowsOf(one, "unconditional", "conditional"), ...rowsOf(two, ...everyKind)],
      [...rowsOf(two, ...everyKind), ...rowsOf(three, "conditional")],
      [...rowsOf(two, "words", "conditional"), ...rowsOf(one, "conditional")],
      rowsOf(one, "conditional"),
    ]
  ) {
    assertRows(stack.stack(rows), rows);
    assert.deepEqual(stack.stack(rows), new ConditioningStack().stack(rows));
  }
  assert.throws(() => stack.stack(rowsOf(three, "conditional", "words")), RangeError);
  assert.throws(() => stack.stack([]), RangeError);
  assertRows(stack.stack(rowsOf(one, "conditional")), rowsOf(one, "conditional"));
});

Deno.test("nothing is left of rows that are not in the run", () => {
  const stack = new ConditioningStack();
  const [one, two] = [conditioning(3, 1), conditioning(3, 2)];
  const row = (conditioning: Conditioning) => ({ conditioning, kind: "conditional" }) as const;
  const both = stack.stack([row(one), row(two)]);
  assertRows(stack.stack([row(two)]), [row(two)]);
  for (const name of ["encoder_hidden_states", "identity_tokens", "identity_token_bias"] as const) {
    assert.ok(rowOf(both[name], 1).data.every((value) => value === 0), name);
  }
});

Deno.test("people of different numbers of tokens share a run, and none notices", async () => {
  const { manifest, folder } = await realBundle();
  const { channels, size } = manifest.latent;
  const { unet } = await loadUnet({ manifest, folder }, sessionSettings);
  const input = (part: ConditioningRows): UnetInput => {
    const rows = part.identity_tokens.dims[0]!;
    const sample = new TorchGenerator(9).randn(channels * size * size);
    return {
      encoder_hidden_states: part.encoder_hidden_states,
      identity_tokens: part.identity_tokens,
      identity_token_bias: part.identity_token_bias,
      sample: {
        data: Float32Array.from({ length: rows * sample.length }, (_, i) => sample[i % sample.length]!),
        dims: [rows, channels, size, size],
      },
      timestep: { data: new Float32Array(rows).fill(500), dims: [rows] },
      identity_strength: { data: new Float32Array(rows).fill(1), dims: [rows] },
    };
  };
  const people = [conditioning(40, 1), conditioning(76, 2), conditioning(40, 3)];
  const stacked = new ConditioningStack().stack(
    people.map((conditioning) => ({ conditioning, kind: "conditional" })),
  );
  assert.deepEqual(stacked.identity_tokens.dims, [3, 76, 256]);
  assert.deepEqual(stacked.identity_token_bias.dims, [3, 76]);
  const together = await unet(input(stacked));
  for (const [index, person] of people.entries()) {
    const alone = await unet(input(person));
    assert.ok(maxDifference(rowOf(together, index).data, alone.data) < 1e-5);
  }
});
