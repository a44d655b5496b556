/** A message that is sent again while an earlier try of it is under way, or waits. */

import { deepEqual, equal, rejects } from "node:assert/strict";
import { sql } from "kysely";
import type { JobsRoom } from "../../jobs/room.ts";
import { mostPending } from "../../jobs/webhooks/announce.ts";
import {
  deliverWebhooks,
  listMessages,
  replayMessage,
  TooManyPendingError,
  type WebhookMessage,
} from "../../jobs/webhooks/deliver.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { openTestRoom } from "./test_room.ts";
import {
  carriers,
  endOne,
  fillBacklog,
  options,
  Receiver,
  settledMessage,
  SlowReceiver,
  subscribe,
  until,
} from "./webhooks_receiver.ts";

const patient = { ...options, timeout: 60_000 };

/** The only message there is. */
async function onlyMessage(room: JobsRoom): Promise<WebhookMessage> {
  const [message, ...more] = await listMessages(room, "alice");
  equal(more.length, 0);
  return message!;
}

/** Waits until nothing carries any message. */
const done = (room: JobsRoom) => until(async () => (await carriers(room)).length === 0 || undefined);

testOnEachStore("a late failure takes nothing from what was delivered meanwhile", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new SlowReceiver();
  await subscribe(room, "alice", receiver.url);
  await endOne(room, "alice");
  const stopFirst = await deliverWebhooks(room, patient);
  await receiver.heard(1);
  await replayMessage(room, "alice", (await onlyMessage(room)).id);
  // as another instance would: the first is busy
  const stopSecond = await deliverWebhooks(room, patient);
  await receiver.heard(2);
  receiver.answerLatest(200);
  await settledMessage(room, "delivered");
  receiver.answer(500);
  await stopFirst();
  await stopSecond();
  const { state, attempts, last_result } = await onlyMessage(room);
  deepEqual([state, attempts, last_result], ["delivered", 1, "200"]);
  deepEqual(await carriers(room), []);
});

testOnEachStore("a late failure takes nothing from what was sent again and waits", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new SlowReceiver();
  await subscribe(room, "alice", receiver.url);
  await endOne(room, "alice");
  // its day ends while it is under way
  await store.queries.updateTable("webhook_messages").set({ deliver_until: new Date(0) }).execute();
  const stop = await deliverWebhooks(room, patient);
  await receiver.heard(1);
  await replayMessage(room, "alice", (await onlyMessage(room)).id);
  receiver.answer(500);
  await until(async () => receiver.asked === 2 || (await onlyMessage(room)).state === "failed" || undefined);
  equal(receiver.asked, 2);
  receiver.answer(200);
  equal((await settledMessage(room, "delivered")).attempts, 1, "what was overtaken is no try any more");
  await stop();
  deepEqual(await carriers(room), []);
});

testOnEachStore("a late success is one, whatever was done meanwhile", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new SlowReceiver();
  await subscribe(room, "alice", receiver.url);
  await endOne(room, "alice");
  const stop = await deliverWebhooks(room, patient);
  await receiver.heard(1);
  await replayMessage(room, "alice", (await onlyMessage(room)).id);
  receiver.answer(200);
  await settledMessage(room, "delivered");
  await done(room);
  await stop();
  equal(receiver.asked, 1, "there is nothing left to send");
});

testOnEachStore("what is sent again goes at once, and instead of the try that waits", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new Receiver([500, 500, 200]);
  await subscribe(room, "alice", receiver.url);
  await endOne(room, "alice");
  const stop = await deliverWebhooks(room, patient);
  await receiver.next();
  const { id } = await onlyMessage(room);
  await until(async () => (await carriers(room))[0]?.state === "retry" || undefined);
  await sql`update queue.job set start_after = now() + interval '2 hours' where data->>'id' = ${id}`
    .execute(store.queries);
  await replayMessage(room, "alice", id);
  await receiver.next();
  await until(async () => (await carriers(room))[0]?.state === "retry" || undefined);
  equal((await carriers(room)).length, 1);
  await replayMessage(room, "alice", id);
  await receiver.next();
  equal((await settledMessage(room, "delivered")).attempts, 3);
  await done(room);
  await stop();
});

testOnEachStore("no more is sent again than may wait", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { endpoint } = await subscribe(room, "alice", "https://example.com/");
  await fillBacklog(room, "alice", endpoint.id, mostPending);
  await endOne(room, "alice");
  const [refused, waiting] = await listMessages(room, "alice");
  equal(refused!.last_result, "too_many_pending");
  await rejects(replayMessage(room, "alice", refused!.id), TooManyPendingError);
  deepEqual((await listMessages(room, "alice"))[0], refused);
  deepEqual(await carriers(room), []);
  // one that waits adds nothing
  equal((await replayMessage(room, "alice", waiting!.id))?.state, "pending");
  await store.queries.deleteFrom("webhook_messages").where("id", "=", waiting!.id).execute();
  equal((await replayMessage(room, "alice", refused!.id))?.state, "pending");
});
