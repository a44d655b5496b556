/** What endpoints that do not answer cost others. */

import { deepEqual, equal } from "node:assert/strict";
import { sql } from "kysely";
import type { JobsRoom } from "../../jobs/room.ts";
import { sweep } from "../../jobs/sweep.ts";
import { mostPending } from "../../jobs/webhooks/announce.ts";
import { deliverWebhooks, giveUpWebhooks, listMessages, replayMessage } from "../../jobs/webhooks/deliver.ts";
import { mostEndpoints } from "../../jobs/webhooks/endpoints.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { openTestRoom } from "./test_room.ts";
import {
  carriers,
  endOne,
  fillBacklog,
  options,
  Receiver,
  SlowReceiver,
  soon,
  subscribe,
  until,
} from "./webhooks_receiver.ts";

/** Longer than any of these tests: what does not answer blocks for as long as it takes. */
const patient = { ...options, timeout: 60_000 };

/** The latest message for an endpoint. */
async function latest(room: JobsRoom, account: string, endpoint: string) {
  const messages = await listMessages(room, account);
  const { state, last_result, attempts } = messages.find(({ endpoint_id }) => endpoint_id === endpoint)!;
  return { state, last_result, attempts };
}

const waits = { state: "pending", last_result: null, attempts: 0 };
const refused = { state: "failed", last_result: "too_many_pending", attempts: 0 };

testOnEachStore("an endpoint has its share of messages waiting, and no more", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { endpoint: dead } = await subscribe(room, "alice", "https://dead.example/");
  const { endpoint: other } = await subscribe(room, "alice", "https://other.example/");
  const { endpoint: bobs } = await subscribe(room, "bob", "https://bob.example/");
  await fillBacklog(room, "alice", dead.id, mostPending / 2 - 1);
  await fillBacklog(room, "bob", bobs.id, mostPending / 2);

  await endOne(room, "alice");
  deepEqual(await latest(room, "alice", dead.id), waits);
  await endOne(room, "alice");
  deepEqual(await latest(room, "alice", dead.id), refused);
  deepEqual(await latest(room, "alice", other.id), waits, "the other endpoint has a share of its own");
  await endOne(room, "bob");
  deepEqual(await latest(room, "bob", bobs.id), waits, "an only endpoint has it all");
  equal((await carriers(room)).length, 4, "what is refused is not sent");

  await sql`
    update webhook_messages set state = 'delivered'
    where id = (select id from webhook_messages where endpoint_id = ${dead.id} and state = 'pending' limit 1)
  `.execute(store.queries);
  await endOne(room, "alice");
  deepEqual(await latest(room, "alice", dead.id), waits);
});

testOnEachStore("whose day is over is given up, tried or not", async ({ store }) => {
  await using room = await openTestRoom(store);
  await subscribe(room, "alice", "https://example.com/");
  for (let n = 0; n < 3; n++) await endOne(room, "alice");
  const [timely, tried, untried] = (await listMessages(room, "alice")).map(({ id }) => id);
  const yesterday = { deliver_until: sql<Date>`now() - interval '1 second'` };
  await store.queries.updateTable("webhook_messages").set(yesterday).where("id", "=", untried!).execute();
  await store.queries.updateTable("webhook_messages").set({ ...yesterday, last_result: "500", attempts: 9 })
    .where("id", "=", tried!).execute();
  await sql`
    update queue.job set state = 'retry', retry_count = 9, start_after = now() + interval '2 hours'
    where data->>'id' = ${tried}
  `.execute(store.queries);
  await sweep(room);
  const messages = await listMessages(room, "alice");
  deepEqual(messages.map(({ state, last_result }) => [state, last_result]), [
    ["pending", null],
    ["failed", "500"],
    ["failed", "expired"],
  ]);
  deepEqual((await carriers(room)).map(({ id }) => id), [timely]);
});

testOnEachStore("a pass gives so many up, the oldest first", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { endpoint } = await subscribe(room, "alice", "https://example.com/");
  await fillBacklog(room, "alice", endpoint.id, 3);
  const [first, ...more] = (await listMessages(room, "alice")).map(({ id }) => id);
  await store.queries.updateTable("webhook_messages").set({ deliver_until: new Date(1) })
    .where("id", "in", more).execute();
  await store.queries.updateTable("webhook_messages").set({ deliver_until: new Date(0) })
    .where("id", "=", first!).execute();
  const given = async () =>
    (await listMessages(room, "alice")).filter(({ state }) => state === "failed").map(({ id }) => id);
  await giveUpWebhooks(room, 1);
  deepEqual(await given(), [first]);
  await giveUpWebhooks(room, 5);
  equal((await given()).length, 3);
});

for (const [status, state] of [[500, "failed"], [200, "delivered"]] as const) {
  testOnEachStore(
    `what is given up on its way, and answered with ${status}, is ${state}`,
    async ({ store }) => {
      await using room = await openTestRoom(store);
      await using receiver = new SlowReceiver();
      await subscribe(room, "alice", receiver.url);
      await endOne(room, "alice");
      const stop = await deliverWebhooks(room, patient);
      await receiver.heard(1);
      await store.queries.updateTable("webhook_messages").set({ deliver_until: new Date(0) }).execute();
      await sweep(room);
      equal((await listMessages(room, "alice"))[0]?.state, "failed");
      receiver.answer(status);
      await stop();
      equal((await listMessages(room, "alice"))[0]?.state, state);
      deepEqual(await carriers(room), [], "it is not tried again");
    },
  );
}

testOnEachStore(
  "a slow endpoint keeps nobody waiting, its account's other one least of all",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    await using slow = new SlowReceiver();
    await using quick = new Receiver([200]);
    await using bobs = new Receiver([200]);
    await subscribe(room, "alice", slow.url);
    await subscribe(room, "alice", quick.url);
    await subscribe(room, "bob", bobs.url);
    const messages = 4;
    for (let n = 0; n < messages; n++) await endOne(room, "alice");
    const stop = await deliverWebhooks(room, { ...patient, concurrency: 4 });
    await slow.heard(1);
    for (let n = 0; n < messages; n++) await soon(quick.next());
    for (let n = 0; n < 3; n++) {
      await endOne(room, "bob");
      await soon(bobs.next());
    }
    equal(slow.asked, 1);
    for (let n = 1; n <= messages; n++) {
      await slow.heard(n);
      slow.answer(200);
    }
    await until(async () => (await carriers(room)).length === 0 || undefined);
    await stop();
  },
);

testOnEachStore("an account's endpoints never hold all that an instance delivers by", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using slow = new SlowReceiver();
  await using bobs = new Receiver([200]);
  for (let n = 0; n < mostEndpoints; n++) await subscribe(room, "alice", slow.url);
  await subscribe(room, "bob", bobs.url);
  for (let n = 0; n < 2; n++) await endOne(room, "alice");
  // as many as an instance delivers at a time (`serve_jobs.ts`)
  const stop = await deliverWebhooks(room, { ...patient, concurrency: 16 });
  await slow.heard(mostEndpoints);
  await endOne(room, "bob");
  await soon(bobs.next());
  equal(slow.asked, mostEndpoints);
  for (let n = 1; n <= 2 * mostEndpoints; n++) {
    await slow.heard(n);
    slow.answer(200);
  }
  await stop();
});

testOnEachStore(
  "who has many messages waiting comes after who has one, and a message that is sent again before them",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    await using alices = new Receiver([200]);
    await using bobs = new Receiver([200]);
    await using carols = new Receiver([200]);
    const { endpoint } = await subscribe(room, "alice", alices.url);
    await subscribe(room, "bob", bobs.url);
    await subscribe(room, "carol", carols.url);
    // one that lost what carries it, two that were sent in turn
    await fillBacklog(room, "alice", endpoint.id, 1);
    await sweep(room);
    const [stranded] = await listMessages(room, "alice");
    for (let n = 0; n < 2; n++) await endOne(room, "alice");
    await endOne(room, "bob");
    await endOne(room, "carol");
    const [latestOfAlice] = await listMessages(room, "alice");
    await replayMessage(room, "alice", latestOfAlice!.id);

    const order: string[] = [];
    const hear = async (name: string, receiver: Receiver, messages: number) => {
      for (let n = 0; n < messages; n++) {
        const { headers } = await soon(receiver.next());
        order.push(name === "alice" ? headers["webhook-id"]! : name);
      }
    };
    const heard = Promise.all([hear("alice", alices, 3), hear("bob", bobs, 1), hear("carol", carols, 1)]);
    const stop = await deliverWebhooks(room, { ...patient, concurrency: 1 });
    await heard;
    await stop();
    const others = (await listMessages(room, "alice")).map(({ id }) => id)
      .filter((id) => id !== stranded!.id && id !== latestOfAlice!.id);
    deepEqual(order, ["bob", "carol", latestOfAlice!.id, stranded!.id, ...others]);
  },
);

testOnEachStore("messages are listed by the hundred, and by their state", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { endpoint } = await subscribe(room, "alice", "https://example.com/");
  const { endpoint: bobs } = await subscribe(room, "bob", "https://example.com/");
  // in one statement, so at one time
  await fillBacklog(room, "alice", endpoint.id, 130);
  await fillBacklog(room, "bob", bobs.id, 1);
  await endOne(room, "alice");
  const latest = (await listMessages(room, "alice"))[0]!.id;
  await store.queries.updateTable("webhook_messages").set({ state: "failed" })
    .where("account_id", "=", "alice").where("id", "<>", latest).execute();

  const failed = await listMessages(room, "alice", { state: "failed" });
  equal(failed.length, 100);
  const more = await listMessages(room, "alice", { state: "failed", before: failed.at(-1)!.id });
  equal(more.length, 30);
  equal(new Set([latest, ...failed.map(({ id }) => id), ...more.map(({ id }) => id)]).size, 131);
  deepEqual(
    (await listMessages(room, "alice", { before: latest })).map(({ id }) => id),
    failed.map(({ id }) => id),
  );
  deepEqual(await listMessages(room, "alice", { state: "delivered" }), []);
  deepEqual(await listMessages(room, "bob", { before: latest }), [], "of another account");
});
