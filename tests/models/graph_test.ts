import assert from "node:assert/strict";
import { BundleError, type BundleErrorCode } from "../../models/bundle_error.ts";
import { loadFaceRecognizer } from "../../models/face_recognizer.ts";
import { checkShape } from "../../models/graph.ts";
import { concatRows, RowBuffer, rowOf, zeros } from "../../models/tensor.ts";
import { loadUnet } from "../../models/unet.ts";
import { realBundle, sessionSettings } from "../real_bundle.ts";

async function assertRefused(
  loading: Promise<unknown>,
  code: BundleErrorCode,
  message: RegExp,
): Promise<void> {
  const error = await loading.then(() => assert.fail("was loaded"), (error) => error);
  assert.ok(error instanceof BundleError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
}

Deno.test("shapes: fixed sides must fit, a letter stands for one number, data is as long as the shape", () => {
  const sides = new Map<string, number>();
  checkShape("x", zeros([2, 3, 4]), ["b", 3, "w"], sides);
  assert.deepEqual([...sides], [["b", 2], ["w", 4]]);
  checkShape("y", zeros([2]), ["b"], sides);
  assert.throws(() => checkShape("y", zeros([3]), ["b"], sides), /y is \[3\], expected \[b\] with b=2/);
  assert.throws(() => checkShape("x", zeros([2, 4, 4]), ["b", 3, "w"], new Map()), RangeError);
  assert.throws(() => checkShape("x", zeros([2, 3]), ["b", 3, "w"], new Map()), RangeError);
  assert.throws(
    () => checkShape("x", { data: new Float32Array(5), dims: [2, 3] }, [2, 3], new Map()),
    /holds 5/,
  );
});

Deno.test("rows are concatenated and taken", () => {
  const one = { data: new Float32Array([1, 2]), dims: [1, 2] };
  const two = { data: new Float32Array([3, 4, 5, 6]), dims: [2, 2] };
  const all = concatRows([one, two]);
  assert.deepEqual(all, { data: new Float32Array([1, 2, 3, 4, 5, 6]), dims: [3, 2] });
  assert.deepEqual(rowOf(all, 2), { data: new Float32Array([5, 6]), dims: [1, 2] });
  assert.throws(() => rowOf(all, 3), RangeError);
  assert.throws(() => concatRows([one, zeros([1, 3])]), RangeError);
});

Deno.test("rows are written where they belong, in memory that is used again and holds nothing of those that left", () => {
  const rows = new RowBuffer();
  assert.equal(rows.reserve([1, 2], 2), false);
  rows.write(0, Float32Array.of(1, 2));
  rows.write(1, Float32Array.of(3), 9);
  const both = rows.first(2);
  assert.deepEqual(both, { data: Float32Array.of(1, 2, 3, 9), dims: [2, 1, 2] });
  assert.equal(rows.reserve([1, 2], 1), true);
  assert.deepEqual(rows.first(1), { data: Float32Array.of(1, 2), dims: [1, 1, 2] });
  assert.deepEqual(both.data, Float32Array.of(1, 2, 0, 0));
  assert.equal(rows.reserve([1, 2], 3), false);
  assert.deepEqual(rows.first(3).data, new Float32Array(6));
  assert.equal(rows.reserve([2, 1], 3), false);
  assert.throws(() => rows.write(0, Float32Array.of(1)), RangeError);
  assert.throws(() => rows.write(0, Float32Array.of(1, 2, 3), 0), RangeError);
});

Deno.test("the recogniser gives rows of length 1 and refuses faces of another size", async () => {
  const bundle = await realBundle();
  const side = bundle.manifest.faces.recognizer.input_size;
  const recognize = await loadFaceRecognizer(bundle, sessionSettings);
  const { data, dims } = await recognize(zeros([2, 3, side, side]));
  assert.equal(dims[0], 2);
  const square = data.subarray(0, dims[1]!).reduce((sum, value) => sum + value * value, 0);
  assert.ok(Math.abs(square - 1) < 1e-4, `squared length ${square}`);
  await assert.rejects(recognize(zeros([1, 3, side, side + 1])), RangeError);
});

Deno.test("a graph that is not what the manifest says is refused when loaded", async () => {
  const { folder, manifest } = await realBundle();
  const swapped = { ...manifest, graphs: { ...manifest.graphs, unet: manifest.graphs.face_recognizer } };
  await assertRefused(
    loadUnet({ folder, manifest: swapped }, sessionSettings),
    "graph_mismatch",
    /unet.*sample/,
  );
  const other = { ...manifest.faces, recognizer: { ...manifest.faces.recognizer, input_size: 64 } };
  await assertRefused(
    loadFaceRecognizer({ folder, manifest: { ...manifest, faces: other } }, sessionSettings),
    "graph_mismatch",
    /64/,
  );
  const lost = { ...manifest, graphs: { ...manifest.graphs, unet: "nowhere.onnx" } };
  await assertRefused(loadUnet({ folder, manifest: lost }, sessionSettings), "graph_unreadable", /nowhere/);
});

Deno.test({
  name: "CUDA that is not there is an error, never a silent fallback",
  // Where the CUDA libraries are installed, there is nothing to fail.
  ignore: await hasCuda(),
  fn: async () => {
    const loading = loadFaceRecognizer(await realBundle(), { ...sessionSettings, provider: "cuda" });
    await assertRefused(loading, "provider_unavailable", /CUDA 12/);
  },
});

async function hasCuda(): Promise<boolean> {
  return await Deno.stat("/dev/nvidiactl").then(() => true, () => false);
}
