/** Turns the end of a generation into webhook messages, one an endpoint, in the transaction that ends it. */

import { type RawBuilder, type Selectable, sql } from "kysely";
import type { Queue } from "../../store/queue.ts";
import type { GenerationsTable } from "../../store/schema.ts";
import type { Queries } from "../../store/store.ts";

/** Name of the queue that carries webhook messages. */
export const webhookQueue = "webhooks";

/** How long delivery is tried. */
export const deliveryHours = 24;

/**
 * Messages of one account that wait at a time, the same share of them for each of its endpoints: whoever looks for the next
 * one in the queue goes past all that wait for an endpoint that is busy.
 */
export const mostPending = 1000;

/** Tells within a statement whether so many messages wait for an endpoint, those left out that the statement writes. */
function hasPending(endpoint: string, messages: RawBuilder<number>): RawBuilder<boolean> {
  return sql`exists (
    select from webhook_messages where endpoint_id = ${endpoint} and state = 'pending' offset ${messages} - 1
  )`;
}

/**
 * Tells within a statement whether an endpoint has its share of {@linkcode mostPending} waiting.
 *
 * @param account whose endpoints share them, those that are not disabled
 * @param endpoint which
 */
export function hasBacklog(account: string, endpoint: string): RawBuilder<boolean> {
  return hasPending(
    endpoint,
    sql`(
      select ${mostPending}::int / greatest(1, count(*)) from webhook_endpoints
      where account_id = ${account} and disabled_at is null
    )`,
  );
}

/**
 * Where messages stand in the queue. Those that wait for an endpoint which has others waiting already come after everybody
 * else's: endpoints that do not answer, however many, take a place of those that do only as often as each is tried.
 */
export const priorities = { first: 0, further: -1 };

/**
 * Makes the queue that carries webhook messages.
 *
 * @param queue of the store
 */
export async function defineWebhooks(queue: Queue): Promise<void> {
  await queue.define(webhookQueue, {
    notify: true,
    // 5 s, 10 s, … up to two hours; `deliver_until` ends it after a day
    retryLimit: 60,
    retryBackoff: true,
    retryDelay: 5,
    retryDelayMax: 7200,
    expireInSeconds: 60,
    retentionSeconds: 7 * 86_400,
    deleteAfterSeconds: 3600,
  });
}

/**
 * Writes the messages of a generation's end and sends them on their way; to an endpoint that has too many waiting, none is
 * sent, and the message says so.
 *
 * @param transaction the one that ends it
 * @param queue carries them
 * @param row the generation in its last state
 * @param endpoints of its account, those that are not disabled
 */
export async function announceByWebhook(
  transaction: Queries,
  queue: Queue,
  row: Selectable<GenerationsTable>,
  endpoints: readonly string[],
): Promise<void> {
  for (const endpoint of endpoints) {
    const id = `msg_${crypto.randomUUID()}`;
    const queueId = crypto.randomUUID();
    const full = hasBacklog(row.account_id, endpoint);
    const type = `generation.${row.state}`;
    const images = row.state === "succeeded" ? row.images : 0;
    const body = JSON.stringify({
      type,
      timestamp: (row.finished_at ?? row.created_at).toISOString(),
      data: {
        id: row.id,
        status: row.state,
        model: row.model,
        usage: { images, steps: images * row.steps },
        credits: row.state === "succeeded" ? row.price : 0,
        ...(row.failure === null ? {} : { error: { code: row.failure.code, detail: row.failure.message } }),
      },
    });
    const { state, further } = await transaction.insertInto("webhook_messages").values({
      id,
      endpoint_id: endpoint,
      account_id: row.account_id,
      type,
      body,
      state: sql`case when ${full} then 'failed' else 'pending' end`,
      last_result: sql`case when ${full} then 'too_many_pending' end`,
      deliver_until: sql<Date>`now() + make_interval(hours => ${deliveryHours}::int)`,
      queue_id: queueId,
    }).returning(["state", hasPending(endpoint, sql`1`).as("further")]).executeTakeFirstOrThrow();
    if (state === "pending") {
      const priority = further ? priorities.further : priorities.first;
      await queue.send(transaction, webhookQueue, { id }, { id: queueId, group: endpoint, priority });
    }
  }
}
