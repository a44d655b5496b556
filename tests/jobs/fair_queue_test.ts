import { deepEqual, equal } from "node:assert/strict";
import { accept } from "../../jobs/accept.ts";
import { runGenerations } from "../../jobs/run.ts";
import type { GenerateInput } from "../../pipeline/protocol.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { ControlledExecutor, type ControlledRun, openTestRoom, requestFrom } from "./test_room.ts";
import { waitForEnd } from "./wait_for_end.ts";

/** Accepts a request of an account that is told by its name, and tells the names of runs by their ids. */
function namesOf(room: Parameters<typeof accept>[0]) {
  const names = new Map<string, string>();
  return {
    async ask(name: string, changes: Partial<GenerateInput> = {}) {
      const account = name.replace(/\d+$/, "");
      names.set((await accept(room, requestFrom(account, changes))).id, name);
    },
    of: ({ assignment }: ControlledRun) => names.get(assignment.id),
  };
}

testOnEachStore(
  "accounts take turns: who has less queued does not wait for all of who has more",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const names = namesOf(room);
    for (const name of ["alice1", "alice2", "alice3", "alice4", "bob1", "bob2", "carol1"]) {
      await names.ask(
        name,
      );
    }

    const executor = new ControlledExecutor();
    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    const order: unknown[] = [];
    for (let i = 0; i < 7; i++) {
      const run = await executor.next();
      order.push(names.of(run));
      // who comes while others wait goes behind what has begun, and before what is ahead of their turn
      if (names.of(run) === "alice3") await names.ask("dave1");
      run.succeed();
    }
    deepEqual(order, ["alice1", "bob1", "carol1", "alice2", "bob2", "alice3", "dave1"]);
    equal(names.of(await executor.next()), "alice4");
  },
);

testOnEachStore("who comes while nothing runs goes behind whose turn it is", async ({ store }) => {
  await using room = await openTestRoom(store);
  const names = namesOf(room);
  for (const name of ["alice1", "alice2"]) await names.ask(name);
  const executor = new ControlledExecutor();
  {
    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    (await executor.next()).succeed();
    equal(names.of(await executor.next()), "alice2");
  }
  // no instance is there now, and alice2 is back in the queue
  await names.ask("bob1");
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  const order: unknown[] = [];
  for (let i = 0; i < 2; i++) {
    const run = await executor.next();
    order.push(names.of(run));
    run.succeed();
  }
  deepEqual(order, ["alice2", "bob1"]);
});

testOnEachStore("a turn is as long as the work, and outlasts an instance", async ({ store }) => {
  await using room = await openTestRoom(store, { initialCredit: 100_000 });
  const names = namesOf(room);
  // as much as four of one picture
  await names.ask("alice1", { numImages: 4 });
  await names.ask("alice2");
  for (const name of ["bob1", "bob2", "bob3", "bob4", "bob5"]) await names.ask(name);

  const executor = new ControlledExecutor();
  const order: unknown[] = [];
  for (let i = 0; i < 7; i++) {
    await using running = await runGenerations(room, executor, { concurrency: 1 });
    let run = await executor.next();
    if (names.of(run) === "bob3") {
      await running.stop(0);
      await using _next = await runGenerations(room, executor, { concurrency: 1 });
      run = await executor.next();
      order.push(names.of(run));
      run.succeed();
      continue;
    }
    order.push(names.of(run));
    run.succeed();
  }
  deepEqual(order, ["alice1", "bob1", "bob2", "bob3", "bob4", "alice2", "bob5"]);
});

testOnEachStore("who asks anew for each portrait does not go before who asked for two", async ({ store }) => {
  await using room = await openTestRoom(store, { initialCredit: 100_000 });
  const names = namesOf(room);
  for (const name of ["alice1", "alice2", "bob1", "carol1"]) await names.ask(name);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  const order: string[] = [];
  let again: string | undefined;
  while (order.length < 6) {
    const run = await executor.next();
    const name = names.of(run)!;
    order.push(name);
    // so that one of the two is always there with a new request when another's portrait is done
    if (again !== undefined) await names.ask(again);
    again = name.startsWith("alice") ? undefined : name.replace(/\d+$/, (n) => String(Number(n) + 1));
    run.succeed();
    await waitForEnd(room, run.assignment.id, new AbortController().signal);
  }
  deepEqual(order, ["alice1", "bob1", "carol1", "alice2", "bob2", "carol2"]);
});
