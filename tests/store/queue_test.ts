import { deepEqual, equal, ok } from "node:assert/strict";
import { sql } from "kysely";
import { generationQueue } from "../../jobs/room.ts";
import { openQueue, type Queue } from "../../store/queue.ts";
import { openServerStore } from "../../store/server_store.ts";
import type { Store } from "../../store/store.ts";
import { openTestRoom } from "../jobs/test_room.ts";
import { openTestStore, testOnEachStore, testOnServer } from "./each_store.ts";
import { ServerLink } from "./server_link.ts";

/** Less than workers wait before they look for themselves. */
const MOST_MS = 1500;

/** Resolves when it is so; fails when that takes longer than a worker's own look. */
async function until(condition: () => boolean): Promise<void> {
  const began = performance.now();
  while (!condition()) {
    ok(performance.now() - began < MOST_MS, "it took as long as waiting for the next look");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Workers look once when they start: nothing is to be seen of waking before that. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 300));

async function send(store: Store, queue: Queue, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await store.transaction((transaction) => queue.send(transaction, "letters", { i }));
  }
}

testOnEachStore("each message wakes a worker when it is committed, not before", async ({ store }) => {
  await using queue = await openQueue(store);
  await queue.define("letters", { notify: true });
  const started: unknown[] = [];
  const { promise: end, resolve: finish } = Promise.withResolvers<void>();
  const stop = await queue.work<{ i: number }>("letters", 4, async ({ data }) => {
    started.push(data.i);
    await end;
  });
  await settled();
  await store.transaction(async (transaction) => {
    await queue.send(transaction, "letters", { i: 7 });
    if (store.kind === "server") await settled();
    deepEqual(started, []);
  });
  await until(() => started.length === 1);
  await send(store, queue, 2);
  await until(() => started.length === 3);
  finish();
  await stop();
});

testOnEachStore("workers go on without a pause while messages wait", async ({ store }) => {
  await using queue = await openQueue(store);
  await queue.define("letters", { notify: true });
  await send(store, queue, 9);
  const done = new Set<number>();
  const stop = await queue.work<{ i: number }>("letters", 2, ({ data }) => {
    done.add(data.i);
    return Promise.resolve();
  });
  await until(() => done.size === 9);
  await stop();
});

testOnEachStore(
  "what comes while every worker is busy is taken as soon as one is done",
  async ({ store }) => {
    await using queue = await openQueue(store);
    await queue.define("letters", { notify: true });
    const started: number[] = [];
    const { promise: end, resolve: finish } = Promise.withResolvers<void>();
    const stop = await queue.work<{ i: number }>("letters", 2, async ({ data }) => {
      started.push(data.i);
      await end;
    });
    await settled();
    await send(store, queue, 2);
    await until(() => started.length === 2);
    for (let i = 2; i < 6; i++) {
      await store.transaction((transaction) => queue.send(transaction, "letters", { i }));
    }
    await settled();
    equal(started.length, 2);
    finish();
    await until(() => started.length === 6);
    await stop();
  },
);

testOnServer("a message wakes the workers of other instances", async ({ store, another }) => {
  await using queue = await openQueue(store);
  await queue.define("letters", { notify: true });
  await using otherStore = await another!();
  await using other = await openQueue(otherStore);
  let started = 0;
  const stop = await other.work("letters", 2, () => Promise.resolve(void started++));
  await settled();
  await send(store, queue, 1);
  await until(() => started === 1);
  await stop();
});

Deno.test("one message has one worker of many ask the database", async () => {
  await using store = await openTestStore();
  const { queueConnection } = store;
  if (!("db" in queueConnection) || queueConnection.db === undefined) {
    throw new Error("no adapter to look through");
  }
  const { db } = queueConnection;
  let fetches = 0;
  const watched: Store = {
    ...store,
    queueConnection: {
      ...queueConnection,
      db: {
        ...db,
        executeSql: (text: string, values?: unknown[]) => {
          if (/'letters'.*skip locked/is.test(text)) fetches++;
          return db.executeSql(text, values);
        },
      },
    },
  };
  await using queue = await openQueue(watched);
  await queue.define("letters", { notify: true });
  let handled = 0;
  const stop = await queue.work("letters", 8, () => Promise.resolve(void handled++));
  await settled();
  ok(fetches >= 8, "every worker looks when it starts");
  fetches = 0;
  await send(store, queue, 1);
  await until(() => handled === 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  // it was told of one, and got it: there is nothing more to look for
  equal(fetches, 1);
  await stop();
});

testOnServer("an instance takes fifteen connections at most", async ({ store }) => {
  await using room = await openTestRoom(store);
  const stop = await room.queue.work(generationQueue, 8, () => Promise.resolve());
  const busy = Array.from({ length: 40 }, () => sql`select pg_sleep(0.2)`.execute(store.queries));
  await store.transaction(async (transaction) => {
    for (let i = 0; i < 16; i++) await room.queue.send(transaction, generationQueue, { i });
  });
  const { rows } = await sql<{ name: string; count: number }>`
    select application_name as name, count(*)::int as count from pg_stat_activity
    where datname = current_database() group by 1 order by 1
  `.execute(store.queries);
  await Promise.all(busy);
  await stop();
  const [requests, queue] = rows;
  deepEqual([rows.length, requests], [2, { name: "idadapter", count: 10 }]);
  ok(queue!.count >= 3 && queue!.count <= 5, `${queue!.count} of the queue, two of them listening`);
});

testOnServer("workers whose connections go dead take messages again", async ({ server }) => {
  const url = await server.createDatabase();
  await using direct = await openServerStore({ url });
  using link = new ServerLink(Number(new URL(url).port));
  await using store = await openServerStore({ url: link.through(url), answerSeconds: 0.5 });
  await using queue = await openQueue(store);
  await queue.define("letters", { notify: true });
  const handled: number[] = [];
  const stop = await queue.work<{ i: number }>("letters", 2, ({ data }) => {
    handled.push(data.i);
    return Promise.resolve();
  });
  await settled();
  link.freeze();
  await using sender = await openQueue(direct);
  await send(direct, sender, 3);
  const began = performance.now();
  while (handled.length < 3) {
    ok(performance.now() - began < 20_000, "they wait for an answer that never comes");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  deepEqual(handled.toSorted(), [0, 1, 2]);
  await stop();
});
