/** Housekeeping, once a minute over all instances: what waited too long, what may be forgotten, what to tidy. */

import { sql } from "kysely";
import { resendUsage } from "../billing/usage_events.ts";
import type { Queue } from "../store/queue.ts";
import { imageKey } from "./image_store.ts";
import { generationQueue, type JobsRoom, poisonQueue } from "./room.ts";
import { fail, withdraw } from "./settle.ts";

const queueName = "sweep";
/** Rows at a time, so that no pass takes long. */
const batch = 500;

/** Ends generations that nobody started in time. */
async function expireWaiting(room: JobsRoom): Promise<void> {
  const late = await room.store.queries.selectFrom("generations").select("id")
    .where("state", "=", "queued").where("deadline", "<=", sql<Date>`now()`).limit(batch).execute();
  for (const { id } of late) await withdraw(room, id, "expired");
}

/** How long after its deadline a running generation that no message carries is given up. */
const strandedMinutes = 5;

/**
 * Ends generations that say they run, and that nobody will ever end: no message carries them any more. Nothing that the
 * service does leads there; it is for what an operator, or a database restored from a backup, did to the queue.
 */
async function failStranded(room: JobsRoom): Promise<void> {
  const stranded = await room.store.queries.selectFrom("generations").select(["id", "attempt"])
    .where("state", "=", "running")
    .where("deadline", "<=", sql<Date>`now() - make_interval(mins => ${strandedMinutes}::int)`)
    .where((where) =>
      where.not(room.queue.carries([generationQueue, poisonQueue], sql.ref("generations.id")))
    )
    .limit(batch).execute();
  for (const { id, attempt } of stranded) {
    await fail(room, { id, attempt, from: "running" }, {
      code: "worker_failed",
      message: "The generation was lost while it ran.",
      details: {},
    });
  }
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
  await failStranded(room);
  if (room.settings.usageEvents) await resendUsage(room.store, room.queue, batch);
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
  // last, for an image store that cannot be reached holds up nothing else
  await removeExpiredImages(room);
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
