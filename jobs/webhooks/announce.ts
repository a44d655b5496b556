/** Turns the end of a generation into webhook messages, one an endpoint, in the transaction that ends it. */

import { type Selectable, sql } from "kysely";
import type { Queue } from "../../store/queue.ts";
import type { GenerationsTable } from "../../store/schema.ts";
import type { Queries } from "../../store/store.ts";

/** Name of the queue that carries webhook messages. */
export const webhookQueue = "webhooks";

/** How long delivery is tried. */
export const deliveryHours = 24;

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
 * Writes the messages of a generation's end and sends them on their way.
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
    await transaction.insertInto("webhook_messages").values({
      id,
      endpoint_id: endpoint,
      account_id: row.account_id,
      type,
      body,
      last_result: null,
      deliver_until: sql<Date>`now() + make_interval(hours => ${deliveryHours}::int)`,
    }).execute();
    await queue.send(transaction, webhookQueue, { id }, { group: row.account_id });
  }
}
