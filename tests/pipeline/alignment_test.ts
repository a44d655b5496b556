import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { alignFace } from "../../pipeline/alignment.ts";
import type { Point } from "../../pipeline/geometry.ts";
import type { FivePoints } from "../../pipeline/landmarks.ts";
import type { Photo } from "../../pipeline/photo.ts";
import { toTensor, warp } from "../../pipeline/warp.ts";
import { readJson } from "../read_fixture.ts";

interface AlignmentFixture {
  size: number;
  template: Point[];
  cases: { width: number; height: number; points: FivePoints; face: string }[];
}

/** The photo of training/idadapter/fixture_alignment.py: sharp detail, another pattern in each channel. */
function patternPhoto(width: number, height: number): Photo {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) data[at++] = (3 * x * x + 7 * y * (c + 1) + x * y) % 256;
    }
  }
  return { width, height, data };
}

Deno.test("aligned faces are Python's, enlarged and reduced, turned, inside and over the edge", () => {
  const { size, template, cases } = readJson<AlignmentFixture>("alignment/faces.json.gz");
  assert.equal(cases.length, 6);
  for (const { width, height, points, face } of cases) {
    const expected = Buffer.from(face, "base64");
    const actual = alignFace(patternPhoto(width, height), points, { input_size: size, template }).data;
    assert.equal(actual.length, expected.length);
    let [largest, different] = [0, 0];
    actual.forEach((value, index) => {
      const difference = Math.abs(value - expected[index]!);
      largest = Math.max(largest, difference);
      if (difference > 0) different++;
    });
    // OpenCV interpolates in float32: now and then a value falls on the other side of a half.
    assert.ok(largest <= 1, `${width} x ${height}: ${largest} levels`);
    assert.ok(different / actual.length < 0.001, `${width} x ${height}: ${different} values differ`);
  }
});

Deno.test("a warp by the identity changes nothing; a shift over the edge repeats the edge", () => {
  const photo = patternPhoto(9, 7);
  assert.deepEqual(warp(photo, [1, 0, 0, 0, 1, 0], 9, 7), photo);
  const shifted = warp(photo, [1, 0, 3, 0, 1, 0], 9, 7);
  for (let x = 0; x < 9; x++) {
    assert.equal(shifted.data[3 * x], photo.data[3 * Math.max(0, x - 3)], `column ${x}`);
  }
});

Deno.test("a reduction averages, so that a fine checkerboard becomes grey instead of a moire", () => {
  const side = 64;
  const data = new Uint8Array(side * side * 3);
  for (let pixel = 0; pixel < side * side; pixel++) {
    data.fill(((pixel % side) + Math.floor(pixel / side)) % 2 * 255, 3 * pixel, 3 * pixel + 3);
  }
  const reduced = warp({ width: side, height: side, data }, [0.25, 0, -0.375, 0, 0.25, -0.375], 16);
  assert.deepEqual(new Set(reduced.data), new Set([128]));
});

Deno.test("means of a reduction are rounded as docs/bundle.md says, halves up", () => {
  // four squares with the sums 2, 6, 1 and 3 in each channel: means of 0.5, 1.5, 0.25 and 0.75
  const rows = [[0, 1, 1, 2, 0, 0, 1, 1], [1, 0, 2, 1, 1, 0, 1, 0]];
  const data = Uint8Array.from(rows.flat().flatMap((value) => [value, value, value]));
  const reduced = warp({ width: 8, height: 2, data }, [0.5, 0, -0.25, 0, 0.5, -0.25], 4, 1);
  assert.deepEqual([...reduced.data].filter((_, index) => index % 3 === 0), [1, 2, 0, 1]);
});

Deno.test("tensors are planar, RGB, 0..1", () => {
  const red = { width: 2, height: 1, data: new Uint8Array([255, 0, 51, 0, 102, 0]) };
  const { data, dims } = toTensor([red, red]);
  assert.deepEqual(dims, [2, 3, 1, 2]);
  assert.deepEqual([...data.subarray(0, 6)], [...new Float32Array([1, 0, 0, 0.4, 0.2, 0])]);
  assert.throws(() => toTensor([red, { width: 1, height: 1, data: new Uint8Array(3) }]), RangeError);
});
