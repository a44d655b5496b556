import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { alignFace } from "../../pipeline/alignment.ts";
import type { Point } from "../../pipeline/geometry.ts";
import type { FivePoints } from "../../pipeline/landmarks.ts";
import { toTensor, warp, warpToSquare } from "../../pipeline/warp.ts";
import { patternPhoto } from "../pattern_photo.ts";
import { readJson } from "../read_fixture.ts";

interface AlignmentFixture {
  size: number;
  template: Point[];
  cases: { width: number; height: number; points: FivePoints; face: string }[];
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

Deno.test("upright warps are the rule's, pixel by pixel, and come as squares for a graph too", () => {
  const photo = patternPhoto(23, 17);
  const halfToEven = (value: number) =>
    Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);
  for (const [scale, shiftX, shiftY] of [[2, 0.5, 0.5], [4, -20, 5.5], [1, -3.25, 2.5]] as const) {
    const [width, height, side] = [29, 21, 32];
    const warped = warp(photo, [scale, 0, shiftX, 0, scale, shiftY], width, height);
    const square = warpToSquare(photo, [scale, 0, shiftX, 0, scale, shiftY], width, height, side);
    assert.deepEqual(square.dims, [1, 3, side, side]);
    const pixel = (x: number, y: number, channel: number) =>
      photo.data[(Math.max(0, Math.min(16, y)) * 23 + Math.max(0, Math.min(22, x))) * 3 + channel]!;
    for (let at = 0; at < 3 * side * side; at++) {
      const [channel, v, u] = [Math.floor(at / side / side), Math.floor(at / side) % side, at % side];
      const shown = u < width && v < height;
      const [x, y] = [(u - shiftX) / scale, (v - shiftY) / scale];
      const [x0, y0] = [Math.floor(x), Math.floor(y)];
      const row = (y: number) => pixel(x0, y, channel) * (1 - x + x0) + pixel(x0 + 1, y, channel) * (x - x0);
      const exact = row(y0) * (1 - y + y0) + row(y0 + 1) * (y - y0);
      const found = warped.data[(v * width + u) * 3 + channel];
      if (shown) assert.equal(found, halfToEven(exact), `${scale}: ${u}, ${v}`);
      assert.equal(square.data[at], shown ? Math.fround(found! / 255) : 0);
    }
  }
});

Deno.test("a square of a photo that is shrunk is its reduction", () => {
  const photo = patternPhoto(90, 60);
  const transform = [0.3, 0, -0.35, 0, 0.3, -0.35] as const;
  const { data } = warpToSquare(photo, transform, 27, 18, 27);
  const expected = toTensor([warp(photo, transform, 27, 18)]);
  assert.deepEqual(data.subarray(0, 27 * 18), expected.data.subarray(0, 27 * 18));
  assert.ok(data.subarray(27 * 18, 27 * 27).every((value) => value === 0));
});

Deno.test("tensors are planar, RGB, 0..1", () => {
  const red = { width: 2, height: 1, data: new Uint8Array([255, 0, 51, 0, 102, 0]) };
  const { data, dims } = toTensor([red, red]);
  assert.deepEqual(dims, [2, 3, 1, 2]);
  assert.deepEqual([...data.subarray(0, 6)], [...new Float32Array([1, 0, 0, 0.4, 0.2, 0])]);
  assert.throws(() => toTensor([red, { width: 1, height: 1, data: new Uint8Array(3) }]), RangeError);
});
