import assert from "node:assert/strict";
import { chooseBatch, type Seat } from "../../pipeline/batch.ts";
import { chooseBatchLimit } from "../../pipeline/batch_limit.ts";

interface NamedSeat extends Seat {
  readonly name: string;
}

/** A generation's pictures: `a0`, `a1`, ... */
function seatsOf(name: string, generation: number, count: number, other: Partial<Seat> = {}): NamedSeat[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `${name}${index}`,
    generation,
    shape: "small",
    lastBatch: -1,
    ...other,
  }));
}

const names = (seats: readonly NamedSeat[]) => seats.map(({ name }) => name).join(" ");

Deno.test("everyone advances while there is room", () => {
  const seats = [...seatsOf("a", 0, 2), ...seatsOf("b", 1, 1), ...seatsOf("c", 2, 3)];
  assert.deepEqual(chooseBatch(seats, 6), seats);
  assert.deepEqual(chooseBatch([], 6), []);
});

Deno.test("many pictures of one generation leave room for the others, and take what those leave", () => {
  const seats = [...seatsOf("a", 0, 8), ...seatsOf("b", 1, 1), ...seatsOf("c", 2, 8)];
  assert.equal(names(chooseBatch(seats, 8)), "a0 a1 a2 a3 b0 c0 c1 c2");
  assert.equal(names(chooseBatch(seats, 3)), "a0 b0 c0");
});

Deno.test("places go to who came first, whatever order the seats are in", () => {
  const seats = [...seatsOf("late", 7, 2), ...seatsOf("early", 3, 2)];
  assert.equal(names(chooseBatch(seats, 1)), "early0");
  assert.equal(names(chooseBatch(seats, 3)), "late0 early0 early1");
});

Deno.test("a batch has one shape, and shapes take turns", () => {
  const small = seatsOf("s", 0, 2, { lastBatch: 4 });
  const large = seatsOf("l", 1, 2, { shape: "large", lastBatch: 3 });
  assert.equal(names(chooseBatch([...small, ...large], 8)), "l0 l1");
  const served = large.map((seat) => ({ ...seat, lastBatch: 5 }));
  assert.equal(names(chooseBatch([...small, ...served], 8)), "s0 s1");
});

/** A machine whose step takes what `secondsOf` says; `sizes` is what it was asked for. */
function machine(secondsOf: (size: number, attempt: number) => number) {
  const sizes: number[] = [];
  const measure = (size: number) => {
    const attempt = sizes.filter((other) => other === size).length;
    sizes.push(size);
    return Promise.resolve(secondsOf(size, attempt));
  };
  return { sizes, measure };
}

Deno.test("the batch limit grows while larger batches make no fewer pictures a second", async () => {
  const limits = { most: 16, longestStep: 2 };
  assert.equal(await chooseBatchLimit(machine((size) => 0.01 * size).measure, limits), 16);
  assert.equal(await chooseBatchLimit(machine(() => 0.01).measure, limits), 16);
  const crowded = machine((size) => size <= 4 ? 0.01 * size : 0.02 * size);
  assert.equal(await chooseBatchLimit(crowded.measure, limits), 4);
  assert.deepEqual(crowded.sizes, [1, 2, 4, 8, 8]);
});

Deno.test("one slow run is not believed, a step that takes too long is not served", async () => {
  const limits = { most: 8, longestStep: 2 };
  const disturbed = machine((size, attempt) => size === 2 && attempt === 0 ? 1 : 0.01 * size);
  assert.equal(await chooseBatchLimit(disturbed.measure, limits), 8);
  assert.equal(await chooseBatchLimit(machine((size) => 0.6 * size).measure, limits), 2);
  assert.equal(await chooseBatchLimit(machine((size) => 9 * size).measure, limits), 1);
});
