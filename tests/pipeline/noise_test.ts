import assert from "node:assert/strict";
import { TorchGenerator } from "../../pipeline/noise.ts";
import { maxDifference, readFloats, readJson } from "../read_fixture.ts";

Deno.test("noise streams agree with torch.randn to 1e-5", async (t) => {
  const streams = readJson<{ seed: string; sizes: number[] }[]>("noise/streams.json.gz");
  const values = readFloats("noise/streams.bin");
  let offset = 0;
  for (const { seed, sizes } of streams) {
    await t.step(`seed ${seed}, sizes ${sizes.join(" ")}`, () => {
      const generator = new TorchGenerator(BigInt(seed));
      for (const size of sizes) {
        const difference = maxDifference(generator.randn(size), values.subarray(offset, offset + size));
        assert.ok(difference <= 1e-5, `size ${size} differs by ${difference}`);
        offset += size;
      }
    });
  }
  assert.equal(offset, values.length);
});

Deno.test("a seed gives the same noise as number and as bigint, other seeds other noise", () => {
  assert.deepEqual(new TorchGenerator(7).randn(40), new TorchGenerator(7n).randn(40));
  assert.notDeepEqual(new TorchGenerator(7).randn(40), new TorchGenerator(8).randn(40));
});

Deno.test("drawing nothing leaves the stream where it was", () => {
  const generator = new TorchGenerator(3);
  assert.equal(generator.randn(0).length, 0);
  assert.deepEqual(generator.randn(16), new TorchGenerator(3).randn(16));
});

Deno.test("numbers that are skipped are those that would have been drawn", () => {
  for (const n of [0, 1, 2, 15, 16, 17, 40, 623, 624, 2304]) {
    const [drawn, skipped] = [new TorchGenerator(5), new TorchGenerator(5)];
    for (const before of [3, 32]) {
      drawn.randn(before);
      skipped.randn(before);
      drawn.randn(n);
      skipped.skip(n);
      assert.deepEqual(skipped.randn(20), drawn.randn(20), `${n} after ${before}`);
      assert.deepEqual(skipped.randn(1), drawn.randn(1), `${n} after ${before}`);
    }
  }
});

Deno.test("seeds and sizes that torch would refuse are refused", () => {
  for (const seed of [-1, 0.5, NaN, Infinity, 2 ** 53, -1n, 2n ** 64n]) {
    assert.throws(() => new TorchGenerator(seed), RangeError);
  }
  for (const size of [-1, 1.5, 16.5, NaN, Infinity]) {
    assert.throws(() => new TorchGenerator(0).randn(size), RangeError);
    assert.throws(() => new TorchGenerator(0).skip(size), RangeError);
  }
});
