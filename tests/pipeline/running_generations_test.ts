import assert from "node:assert/strict";
import { PipelineError } from "../../pipeline/protocol.ts";
import { RunningGenerations } from "../../pipeline/running_generations.ts";

function refusal(generations: RunningGenerations): PipelineError {
  try {
    generations.requireRoom();
  } catch (error) {
    assert.ok(error instanceof PipelineError);
    return error;
  }
  throw new Error("there was room");
}

Deno.test("there is room for a batch and a queue, and again when one has ended", () => {
  const generations = new RunningGenerations(2, 1);
  for (const id of [1, 2, 3]) {
    generations.requireRoom();
    generations.add(id);
  }
  generations.start(1);
  assert.deepEqual(generations.load, { running: 1, waiting: 2, maxBatch: 2, maxQueue: 1 });
  assert.equal(refusal(generations).code, "queue_full");
  assert.equal(refusal(generations).details["limit"], 3);
  generations.remove(2);
  generations.requireRoom();
});

Deno.test("callers are told to wait about as long as generations take, a minute at most", () => {
  let now = 0;
  const generations = new RunningGenerations(1, 0, () => now);
  const wait = (seconds: number) => {
    generations.add(1);
    generations.start(1);
    now += seconds * 1000;
    const told = refusal(generations).details["retry_after_seconds"];
    generations.remove(1);
    return told;
  };
  assert.equal(wait(10), 1, "nothing is known at first");
  for (let i = 0; i < 30; i++) wait(10);
  assert.equal(wait(10), 10);
  for (let i = 0; i < 30; i++) wait(1000);
  assert.equal(wait(1000), 60);
});
