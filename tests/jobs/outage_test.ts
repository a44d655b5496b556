/** What an instance does while it cannot reach the database. */

import { deepEqual, equal, ok } from "node:assert/strict";
import { sql } from "kysely";
import { accept } from "../../jobs/accept.ts";
import { DurableGenerations } from "../../jobs/durable_generations.ts";
import type { JobsRoom } from "../../jobs/room.ts";
import { runGenerations, type Running } from "../../jobs/run.ts";
import { openServerStore } from "../../store/server_store.ts";
import { isStoreUnavailable } from "../../store/unavailable.ts";
import { delay } from "../delay.ts";
import { testOnServer } from "../store/each_store.ts";
import { ServerLink } from "../store/server_link.ts";
import { ends, PATIENCE_MS } from "./ends.ts";
import { ControlledExecutor, openTestRoom, requestFrom, requestPrice } from "./test_room.ts";
import { findGeneration, waitForEnd } from "./wait_for_end.ts";
import { whileAging } from "./while_aging.ts";

const never = new AbortController().signal;

/** Two instances on one database; the link of one can be broken, its queue's own connections excepted. */
interface Instances extends AsyncDisposable {
  readonly cut: JobsRoom;
  readonly whole: JobsRoom;
  readonly link: ServerLink;
}

async function openInstances(url: string): Promise<Instances> {
  const link = new ServerLink(Number(new URL(url).port));
  const direct = await openServerStore({ url });
  const linked = await openServerStore({ url: link.through(url) });
  const whole = await openTestRoom(direct);
  const cut = await openTestRoom({ ...linked, queueConnection: direct.queueConnection });
  return {
    cut,
    whole,
    link,
    async [Symbol.asyncDispose]() {
      link.restore();
      await cut[Symbol.asyncDispose]();
      await whole[Symbol.asyncDispose]();
      await linked[Symbol.asyncDispose]();
      await direct[Symbol.asyncDispose]();
      link[Symbol.dispose]();
    },
  };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!await condition()) {
    ok(Date.now() < end, "it never happens");
    await delay(20);
  }
}

/** Runs it on the other instance as if the first had been gone for longer than its lease. */
async function takeOver({ whole }: Instances, id: string): Promise<void> {
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(whole, executor, { concurrency: 1 });
  const run = await whileAging(whole, id, executor.next());
  run.succeed();
  equal((await waitForEnd(whole, id, never)).state, "succeeded");
  const account = await whole.store.queries.selectFrom("accounts").selectAll().executeTakeFirstOrThrow();
  deepEqual([account.available, account.reserved, account.spent], [1000 - requestPrice, 0, requestPrice]);
}

testOnServer(
  "what is taken from the queue during an outage waits for its end, and keeps its tries",
  async ({ server }) => {
    await using instances = await openInstances(await server.createDatabase());
    const { cut, whole, link } = instances;
    const executor = new ControlledExecutor();
    const faults: unknown[] = [];
    await using _running = await runGenerations(cut, executor, {
      concurrency: 1,
      onFault: (_id, error) => faults.push(error),
    });
    link.refuse();
    const { id } = await accept(whole, requestFrom("alice"));
    // more often than a message is handed out
    await until(() => link.refused > 3);
    equal(executor.pending, 0);
    link.restore();
    (await ends(executor.next())).succeed();
    const row = await waitForEnd(whole, id, never);
    deepEqual([row.state, row.attempt, faults], ["succeeded", 1, []]);
    const { rows } = await sql<{ retry_count: number }>`
    select retry_count from queue.job where data->>'id' = ${id} and name = 'generations'
  `.execute(whole.store.queries);
    deepEqual(rows, [{ retry_count: 0 }]);
  },
);

testOnServer("what has been made is settled when the outage is over", async ({ server }) => {
  await using instances = await openInstances(await server.createDatabase());
  const { cut, whole, link } = instances;
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(cut, executor, { concurrency: 1 });
  const { id } = await accept(whole, requestFrom("alice"));
  const run = await executor.next();
  link.refuse();
  run.succeed();
  await until(() => link.refused > 2);
  link.restore();
  const row = await waitForEnd(whole, id, never);
  deepEqual([row.state, row.attempt], ["succeeded", 1]);
});

for (const [what, before] of [["made", true], ["being made", false]] as const) {
  testOnServer(
    `who stops during an outage does not wait for its end: what is ${what} is left to others`,
    async ({ server }) => {
      await using instances = await openInstances(await server.createDatabase());
      const { cut, whole, link } = instances;
      const executor = new ControlledExecutor();
      const faults: unknown[] = [];
      const running: Running = await runGenerations(cut, executor, {
        concurrency: 1,
        onFault: (_id, error) => faults.push(error),
      });
      const { id } = await accept(whole, requestFrom("alice"));
      const run = await executor.next();
      link.refuse();
      if (before) {
        run.succeed();
        await until(() => link.refused > 0);
      }
      deepEqual(await ends(running.stop(0)), [], "nothing could be handed back");
      // the log has a line of it
      await until(() => faults.length === 1);
      ok(isStoreUnavailable(faults[0]));
      link.restore();
      equal((await findGeneration(whole, id))?.state, "running");
      await takeOver(instances, id);
    },
  );
}

testOnServer("who closes during an outage does not wait for ends that cannot be read", async ({ server }) => {
  await using instances = await openInstances(await server.createDatabase());
  const { cut, link } = instances;
  const generations = new DurableGenerations(cut);
  const { id } = await generations.submit(requestFrom("alice"));
  link.refuse();
  cut.notices.tellHere({ id, state: "succeeded" });
  await until(() => link.refused > 0);
  await ends(generations.close());
});

testOnServer(
  "a worker that was frozen before it began what another has taken by now starts nothing",
  async ({ store, another }) => {
    await using otherStore = await another!();
    await using room = await openTestRoom(store);
    await using other = await openTestRoom(otherStore);
    const took = Promise.withResolvers<void>();
    const thaws = Promise.withResolvers<void>();
    const queue: typeof room.queue = {
      ...room.queue,
      work: (name, concurrency, handle, options) =>
        room.queue.work(name, concurrency, async (message: Parameters<typeof handle>[0]) => {
          took.resolve();
          await thaws.promise;
          await handle(message);
        }, options),
    };
    const idle = new ControlledExecutor();
    await using frozen = await runGenerations({ ...room, queue }, idle, { concurrency: 1 });
    const { id } = await accept(other, requestFrom("alice"));
    await took.promise;
    const executor = new ControlledExecutor();
    await using _running = await runGenerations(other, executor, { concurrency: 1 });
    const run = await whileAging(other, id, executor.next());
    thaws.resolve();
    await frozen.stop(PATIENCE_MS / 2);
    equal(idle.pending, 0);
    run.succeed();
    deepEqual((({ state, attempt }) => [state, attempt])(await waitForEnd(other, id, never)), [
      "succeeded",
      1,
    ]);
  },
);

testOnServer("a worker whose message went to another starts nothing", async ({ server }) => {
  await using instances = await openInstances(await server.createDatabase());
  const { cut, whole, link } = instances;
  const idle = new ControlledExecutor();
  await using late = await runGenerations(cut, idle, { concurrency: 1 });
  link.refuse();
  const { id } = await accept(whole, requestFrom("alice"));
  await until(() => link.refused > 0);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(whole, executor, { concurrency: 1 });
  const run = await whileAging(whole, id, executor.next());
  link.restore();
  // its next try finds that the message is no longer its own
  await late.stop(PATIENCE_MS / 2);
  equal((await findGeneration(whole, id))?.attempt, 1);
  equal(idle.pending, 0);
  run.succeed();
  equal((await waitForEnd(whole, id, never)).state, "succeeded");
});
