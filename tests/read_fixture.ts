/** Reads what `python -m idadapter.fixtures` wrote. */

import { Buffer } from "node:buffer";
import { gunzipSync } from "node:zlib";

/** Where a fixture lies. */
export function fixtureUrl(name: string): URL {
  return new URL(`./fixtures/${name}`, import.meta.url);
}

/** A gzipped JSON file of `tests/fixtures`; the caller knows its shape. */
export function readJson<T>(name: string): T {
  return JSON.parse(gunzipSync(Deno.readFileSync(fixtureUrl(name))).toString("utf8"));
}

/** A raw little-endian float32 file of `tests/fixtures`. */
export function readFloats(name: string): Float32Array {
  const bytes = Buffer.from(Deno.readFileSync(fixtureUrl(name)));
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

/** The largest absolute difference of two arrays of one length; NaN anywhere, or different lengths, give Infinity. */
export function maxDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Infinity : difference;
  }
  return largest;
}
