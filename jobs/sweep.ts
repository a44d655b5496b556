/** Housekeeping, once a minute over all instances: what waited too long, what may be forgotten, what to tidy. */

import { sql } from "kysely";
import type { Queue } from "../store/queue.ts";
import { imageKey } from "./image_store.ts";
import type { JobsRoom } from "./room.ts";
import { withdraw } from "./settle.ts";

const queueName = "sweep";
/** Rows at a time, so that no pass takes long. */
const batch = 500;

/** Ends generations that nobody started in time. */
async function expireWaiting(room: JobsRoom): Promise<void> {
  const late = await room.store.queries.selectFrom("generations").select("id")
    .where("state", "=", "queued").where("deadline", "<=", sql<Date>`now()`).limit(batch).execute();
  for (const { id } of late) await withdraw(room, id, "expired");
}

/** Removes pictures whose time is over: first the bytes, then the rows that know of them. */
async function removeExpiredImages(room: JobsRoom): Promise<void> {
  const expired = await room.store.queries.selectFrom("generation_images").select(["generation_id", "index"])
    .where("expires_at", "<=", sql<Date>`now()`).limit(batch).execute();
  await room.images.remove(expired.map(({ generation_id, index }) => imageKey(generation_id, index)));
  for (const { generation_id, index } of expired) {
    await room.store.queries.deleteFrom("generation_images")
      .where("generation_id", "=", generation_id).where("index", "=", index).execute();
  }
  await room.images.removeExpired();
}

/**
 * Does one pass.
 *
 * @param room the jobs room
 */
export async function sweep(room: JobsRoom): Promise<void> {
  const { queries } = room.store;
  await expireWaiting(room);
  await removeExpiredImages(room);
  await queries.deleteFrom("idempotency_keys").where("expires_at", "<=", sql<Date>`now()`).execute();
  await queries.deleteFrom("used_tokens").where("expires_at", "<=", sql<Date>`now()`).execute();
  // whoever still signs with one is told that it was revoked, for a while
  await queries.deleteFrom("account_keys").where("revoked_at", "<", sql<Date>`now() - interval '7 days'`)
    .execute();
  await queries.deleteFrom("rate_limits").where("updated_at", "<", sql<Date>`now() - interval '1 hour'`)
    .execute();
  await queries.deleteFrom("usage_events").where("delivered_at", "<", sql<Date>`now() - interval '30 days'`)
    .execute();
  await queries.deleteFrom("webhook_messages").where("created_at", "<", sql<Date>`now() - interval '30 days'`)
    .execute();
  await room.store.maintain();
}

/**
 * Makes the queue that carries the passes.
 *
 * @param queue of the store
 */
export async function defineSweep(queue: Queue): Promise<void> {
  await queue.define(queueName, {
    retryLimit: 0,
    expireInSeconds: 300,
    deleteAfterSeconds: 3600,
    policy: "short",
  });
  await queue.schedule(queueName, "* * * * *");
}

/**
 * Has this instance take its turns.
 *
 * @param room the jobs room
 * @returns stops
 */
export function runSweep(room: JobsRoom): Promise<() => Promise<void>> {
  return room.queue.work(queueName, 1, () => sweep(room));
}
