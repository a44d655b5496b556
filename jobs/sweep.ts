/** Housekeeping, once a minute over all instances: what waited too long, what may be forgotten, what to tidy. */

import { type Selectable, sql } from "kysely";
import { resendUsage } from "../billing/usage_events.ts";
import type { Queue } from "../store/queue.ts";
import type { GenerationImagesTable } from "../store/schema.ts";
import { ObjectStoreError } from "../store/unavailable.ts";
import { imageKey } from "./image_store.ts";
import { generationQueue, type JobsRoom, poisonQueue } from "./room.ts";
import { fail, withdraw } from "./settle.ts";
import { giveUpWebhooks, resendWebhooks } from "./webhooks/deliver.ts";

const queueName = "sweep";
/** Rows at a time, so that no pass takes long. */
const batch = 500;

/** How long a pass removes pictures; it has 300 seconds in all. */
const imageMilliseconds = 200_000;

/** Used tokens that are forgotten at a time, and for how long a pass forgets them. */
const tokens = { batch: 10_000, milliseconds: 20_000 };

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

/** A picture whose time is over. */
type Expired = Pick<Selectable<GenerationImagesTable>, "generation_id" | "index">;

/** Removes the bytes of pictures, all that can be. @returns whose are gone, and why others are not */
async function removeBytes(
  { images }: JobsRoom,
  expired: readonly Expired[],
): Promise<{ readonly gone: readonly Expired[]; readonly fault?: unknown }> {
  const remove = (some: readonly Expired[]) =>
    images.remove(some.map(({ generation_id, index }) => imageKey(generation_id, index)));
  try {
    await remove(expired);
    return { gone: expired };
  } catch (fault) {
    if (!(fault instanceof ObjectStoreError)) throw fault;
    // one that cannot be removed keeps no other
    const ends = await Promise.allSettled(expired.map((one) => remove([one])));
    return { gone: expired.filter((_, place) => ends[place]!.status === "fulfilled"), fault };
  }
}

/**
 * Removes pictures whose time is over, for as long as a pass may take: first the bytes, then the rows that know of them.
 * Those of a generation that is not over are about to be written again, or kept.
 */
async function removeExpiredImages(room: JobsRoom): Promise<void> {
  const end = performance.now() + imageMilliseconds;
  while (true) {
    const expired = await room.store.queries.selectFrom("generation_images").select([
      "generation_id",
      "index",
    ])
      .where("expires_at", "<=", sql<Date>`now()`)
      .where((where) =>
        where.not(where.exists(
          where.selectFrom("generations").select("id").where("state", "in", ["queued", "running"])
            .whereRef("generations.id", "=", "generation_images.generation_id"),
        ))
      )
      .orderBy("expires_at").limit(batch).execute();
    const { gone, fault } = await removeBytes(room, expired);
    if (gone.length > 0) {
      await room.store.queries.deleteFrom("generation_images")
        .where((where) =>
          where(
            where.refTuple("generation_id", "index"),
            "in",
            gone.map(({ generation_id, index }) => where.tuple(generation_id, index)),
          )
        ).execute();
    }
    if (fault !== undefined) throw fault;
    if (expired.length < batch || performance.now() > end) break;
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
  const now = sql<Date>`now()`;
  const steps = [
    () => expireWaiting(room),
    () => failStranded(room),
    async () => void (room.settings.usageEvents && await resendUsage(room.store, room.queue, batch)),
    () => giveUpWebhooks(room, batch),
    () => resendWebhooks(room, batch),
    () => queries.deleteFrom("idempotency_keys").where("expires_at", "<=", now).execute(),
    () => forgetUsedTokens(room),
    // whoever still signs with one is told that it was revoked, for a while
    () =>
      queries.deleteFrom("account_keys").where("revoked_at", "<", sql<Date>`now() - interval '7 days'`)
        .execute(),
    () =>
      queries.deleteFrom("rate_limits").where("updated_at", "<", sql<Date>`now() - interval '1 hour'`)
        .execute(),
    () =>
      queries.deleteFrom("usage_events").where("delivered_at", "<", sql<Date>`now() - interval '30 days'`)
        .execute(),
    () =>
      queries.deleteFrom("webhook_messages").where("created_at", "<", sql<Date>`now() - interval '30 days'`)
        .execute(),
    () => room.store.maintain(),
    () => removeExpiredImages(room),
  ];
  // one that fails holds up no other
  const faults: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (fault) {
      faults.push(fault);
    }
  }
  if (faults.length > 0) throw faults[0];
}

/** Some at a time: whoever has an account's key can have any number of them used. */
async function forgetUsedTokens({ store }: JobsRoom): Promise<void> {
  const end = performance.now() + tokens.milliseconds;
  let forgotten: bigint | undefined;
  do {
    const { numAffectedRows } = await sql`
      delete from used_tokens where ctid = any(array(
        select ctid from used_tokens where expires_at <= now() limit ${sql.lit(tokens.batch)}
      ))`.execute(store.queries);
    forgotten = numAffectedRows;
  } while (forgotten === BigInt(tokens.batch) && performance.now() < end);
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
 * @param onFault told why a pass did not come to its end; the next one begins anew
 * @returns stops
 */
export function runSweep(room: JobsRoom, onFault: (error: unknown) => void): Promise<() => Promise<void>> {
  return room.queue.work(queueName, 1, async () => {
    try {
      await sweep(room);
    } catch (error) {
      onFault(error);
      throw error;
    }
  });
}
