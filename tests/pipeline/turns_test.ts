import assert from "node:assert/strict";
import { PipelineError } from "../../pipeline/protocol.ts";
import { Turns } from "../../pipeline/turns.ts";

/** A line whose stages write down their names. */
function line() {
  const turns = new Turns();
  const done: string[] = [];
  const add = (name: string, options: { urgent?: boolean; signal?: AbortSignal } = {}) =>
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
  for (const name of ["U", "V", "W"]) void add(name, { urgent: true });
  while (turns.length > 0) await turns.next();
  assert.equal(done.join(""), "UaVbW");
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
  const next = add("next");
  await turns.next();
  await turns.next();
  assert.equal((await broken.catch((error) => error)).message, "broken");
  assert.equal(await next, "next");
});
