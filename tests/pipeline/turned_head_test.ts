import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Point } from "../../pipeline/geometry.ts";
import type { FivePoints } from "../../pipeline/landmarks.ts";
import { type HeadTurn, turnHead, turnOfSeed } from "../../pipeline/turned_head.ts";
import { patternPhoto } from "../pattern_photo.ts";
import { readJson } from "../read_fixture.ts";

interface TurnedHeadFixture {
  cases: {
    size: number;
    margin: number;
    template: Point[];
    landmarks: FivePoints;
    turn: HeadTurn;
    face: string;
  }[];
  seeds: { seed: number; turn: number }[];
}

const { cases, seeds } = readJson<TurnedHeadFixture>("alignment/turned_heads.json.gz");

Deno.test("turned heads are Python's: by angles and to views, too far, mirrored, in squares that no grid fits", () => {
  assert.equal(cases.length, 9);
  for (const { size, margin, template, landmarks, turn, face } of cases) {
    const expected = Buffer.from(face, "base64");
    const side = size + 2 * margin;
    const { data, width, height } = turnHead(patternPhoto(side, side), margin, landmarks, turn, template);
    assert.deepEqual([width, height, data.length], [size, size, expected.length]);
    const differences = [...data].map((value, index) => Math.abs(value - expected[index]!));
    // OpenCV's places are single precision: now and then a value falls on the other side of a half.
    assert.ok(Math.max(...differences) <= 1, `${size}: ${Math.max(...differences)} levels`);
    assert.ok(differences.filter((one) => one > 0).length / data.length < 0.005, `${size}`);
  }
});

Deno.test("a head that is not turned stays as it is, but for its place", () => {
  const [{ size, template }] = cases as [TurnedHeadFixture["cases"][0]];
  const photo = patternPhoto(size, size);
  const landmarks = template as unknown as FivePoints;
  assert.deepEqual(turnHead(photo, 0, landmarks, { by: 0 }, template).data, photo.data);
});

Deno.test("a seed turns a picture as in Python; 0 degrees turn none", () => {
  assert.ok(seeds.length >= 8);
  for (const { seed, turn } of seeds) {
    assert.ok(Math.abs(turnOfSeed(seed, 20) - turn) < 1e-12, `seed ${seed}`);
    assert.equal(Math.abs(turnOfSeed(seed, 0)), 0);
  }
});
