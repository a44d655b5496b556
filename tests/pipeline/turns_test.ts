import assert from "node:assert/strict";
import { PipelineError } from "../../pipeline/protocol.ts";
import { type TurnOptions, Turns } from "../../pipeline/turns.ts";

/** A line whose stages write down their names. */
function line() {
  const turns = new Turns();
  const done: string[] = [];
  const add = (name: string, options: TurnOptions = {}) =>
    turns.take(() => {
      done.push(name);
      return Promise.resolve(name);
    }, options);
  return { turns, done, add };
}

Deno.test("stages go one at a time, in the order they came, and hand back what they give", async () => {
  const { turns, done, add } = line();
  const [first, second] = [add("first"), add("second")];
  assert.deepEqual([turns.length, done], [2, []]);
  await turns.next();
  assert.deepEqual(done, ["first"]);
  assert.equal(await first, "first");
  await turns.next();
  assert.equal(await second, "second");
  await turns.next();
  assert.equal(turns.length, 0);
});

Deno.test("urgent stages go first, but leave every other turn to the rest", async () => {
  const { turns, done, add } = line();
  for (const name of ["a", "b"]) void add(name);
  for (const name of ["U", "V", "W"]) void add(name, { rank: "urgent" });
  while (turns.length > 0) await turns.next();
  assert.equal(done.join(""), "UaVbW");
});

Deno.test("spare stages go when nobody else is in line", async () => {
  const { turns, done, add } = line();
  for (const name of ["1", "2"]) void add(name, { rank: "spare" });
  for (const name of ["a", "b"]) void add(name);
  void add("U", { rank: "urgent" });
  for (let turn = 0; turn < 4; turn++) await turns.next();
  void add("c");
  while (turns.length > 0) await turns.next();
  assert.equal(done.join(""), "Uab1c2");
});

Deno.test("a canceled stage leaves without running and costs nobody a turn", async () => {
  const { turns, done, add } = line();
  const controller = new AbortController();
  const canceled = add("gone", { signal: controller.signal });
  const stays = add("stays");
  const reason = new PipelineError("deadline_exceeded", "too late");
  controller.abort(reason);
  await turns.next();
  assert.equal(await stays, "stays");
  assert.equal(await canceled.catch((error) => error), reason);
  assert.deepEqual(done, ["stays"]);
  const late = await add("late", { signal: AbortSignal.abort() }).catch((error) => error);
  assert.equal(late.code, "canceled");
});

Deno.test("a stage that fails tells its caller and stops nobody", async () => {
  const { turns, add } = line();
  const broken = turns.take(() => Promise.reject(new RangeError("broken")));
  const atOnce = turns.take(() => {
    throw new RangeError("before it had a promise");
  });
  const next = add("next");
  const failures = Promise.allSettled([broken, atOnce]);
  for (let turn = 0; turn < 3; turn++) await turns.next();
  assert.deepEqual(
    (await failures).map((failure) => failure.status === "rejected" && failure.reason.message),
    [
      "broken",
      "before it had a promise",
    ],
  );
  assert.equal(await next, "next");
});
