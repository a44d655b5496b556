/** Usage leaves as CloudEvents 1.0, at least once, each with an id of its own that never changes. */

import { CloudEvent, HTTP } from "cloudevents";
import { sql } from "kysely";
import type { Queries, Store } from "../store/store.ts";
import type { Message, Queue } from "../store/queue.ts";

const queueName = "usage_events";
/** Where events come from, the `source` attribute. */
const source = "urn:idadapter:service";

/** What was charged. */
export interface UsageRecord {
  readonly generation: string;
  readonly account: string;
  readonly key: string;
  readonly model: string;
  readonly images: number;
  readonly steps: number;
  readonly pixels: number;
  readonly credits: number;
  readonly finishedAt: Date;
}

/** Posts one body; any answer but 2xx is a failure. */
export type PostEvent = (
  url: string,
  headers: Readonly<Record<string, string>>,
  body: string,
) => Promise<number>;

/** Makes the queue that carries usage events. */
export async function defineUsageEvents(queue: Queue): Promise<void> {
  await queue.define(queueName, {
    notify: true,
    // about 20 days at one try an hour, after the first ten have come quicker; then `resendUsage` begins again
    retryLimit: 480,
    retryBackoff: true,
    retryDelay: 5,
    retryDelayMax: 3600,
    expireInSeconds: 60,
    retentionSeconds: 30 * 86_400,
  });
}

/**
 * Puts the event of a charge into the outbox, in the transaction that charges.
 *
 * @param transaction the one that charges
 * @param queue carries it
 * @param record what was charged
 */
export async function recordUsage(transaction: Queries, queue: Queue, record: UsageRecord): Promise<void> {
  const id = `usage_${record.generation}`;
  const event = new CloudEvent({
    id,
    source,
    type: "idadapter.generation.charged",
    subject: record.account,
    time: record.finishedAt.toISOString(),
    datacontenttype: "application/json",
    data: {
      generation_id: record.generation,
      account: record.account,
      key: record.key,
      model: record.model,
      images: record.images,
      steps: record.images * record.steps,
      pixels: record.pixels,
      credits: record.credits,
    },
  });
  await transaction.insertInto("usage_events")
    .values({
      id,
      generation_id: record.generation,
      body: String(HTTP.structured(event).body),
      delivered_at: null,
    })
    .execute();
  await queue.send(transaction, queueName, { id });
}

/**
 * Sends events again that have not arrived and that no message carries any more: their tries are used up, or their message
 * was lost with what an operator did to the queue.
 *
 * @param store where the outbox is
 * @param queue carries them
 * @param most at a time, the oldest first
 */
export async function resendUsage({ transaction }: Store, queue: Queue, most: number): Promise<void> {
  await transaction(async (queries) => {
    const stranded = await queries.selectFrom("usage_events").select("id").where("delivered_at", "is", null)
      .where((where) => where.not(queue.carries([queueName], sql.ref("usage_events.id"))))
      .orderBy("created_at").limit(most).forUpdate().skipLocked().execute();
    for (const { id } of stranded) await queue.send(queries, queueName, { id });
  });
}

/** Told of every try that failed: the event's id, and an HTTP status or `no_answer`. */
export type UsageFailure = (id: string, result: string) => void;

/**
 * Delivers usage events to the operator's address.
 *
 * @param store where the outbox is
 * @param queue says which are due
 * @param url gets them, structured mode of the CloudEvents HTTP binding
 * @param post does the request
 * @param onFailure told of every try that failed
 * @returns stops delivering
 */
export function deliverUsage(
  store: Store,
  queue: Queue,
  url: string,
  post: PostEvent,
  onFailure: UsageFailure = () => {},
): Promise<() => Promise<void>> {
  return queue.work(queueName, 1, async ({ data: { id } }: Message<{ id: string }>) => {
    const event = await store.queries.selectFrom("usage_events").select("body")
      .where("id", "=", id).where("delivered_at", "is", null).executeTakeFirst();
    if (event === undefined) return;
    const headers = { "Content-Type": "application/cloudevents+json; charset=utf-8" };
    const status = await post(url, headers, event.body).catch(() => undefined);
    if (status === undefined || status < 200 || status > 299) {
      const result = status === undefined ? "no_answer" : String(status);
      onFailure(id, result);
      throw new Error(`not delivered: ${result}`);
    }
    await store.queries.updateTable("usage_events").set({ delivered_at: new Date() }).where("id", "=", id)
      .execute();
  });
}
