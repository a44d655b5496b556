import { equal } from "node:assert/strict";
import { priceOf } from "../../billing/price.ts";

const prices = { perMegapixelStep: 100, minimum: 5 };

Deno.test("the price follows pixels, steps and images, in whole credits", () => {
  const work = { images: 1, steps: 20, pixels: 128 * 128 };
  equal(priceOf(prices, work), 33);
  equal(priceOf(prices, { ...work, images: 2 }), 66);
  equal(priceOf(prices, { ...work, steps: 40 }), 66);
  equal(priceOf(prices, { images: 8, steps: 100, pixels: 1024 * 1024 }), 83_887);
});

Deno.test("a small one costs the minimum, and nothing is free by rounding", () => {
  equal(priceOf(prices, { images: 1, steps: 1, pixels: 64 * 64 }), 5);
  equal(priceOf({ perMegapixelStep: 1, minimum: 0 }, { images: 1, steps: 1, pixels: 1 }), 1);
});
