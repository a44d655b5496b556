/** Delivers webhook messages as Standard Webhooks 1.0 has it. */

import { type Selectable, sql } from "kysely";
import { Webhook } from "standardwebhooks";
import type { Message } from "../../store/queue.ts";
import type { WebhookEndpointsTable, WebhookMessagesTable } from "../../store/schema.ts";
import { SealError } from "../../store/sealing.ts";
import type { JobsRoom } from "../room.ts";
import { deliveryHours, webhookQueue } from "./announce.ts";
import { signingSecrets } from "./endpoints.ts";
import { AddressRefusedError, post, type PostOptions } from "./post.ts";

/** A message as the account sees it. */
export type WebhookMessage = Selectable<WebhookMessagesTable>;

/** What {@linkcode deliverWebhooks} takes. */
export interface DeliveryOptions extends PostOptions {
  /** messages at a time */
  readonly concurrency: number;
  /** told of every try that failed; `result` is an HTTP status, `no_answer`, `address_refused` or `secret_unreadable` */
  readonly onFailure?: (message: WebhookMessage, result: string) => void;
}

/** Messages of one account that are on their way at a time: who answers slowly must not keep everybody else waiting. */
const mostOfAccount = 2;

/** How a try ended: whether the message has arrived, or never will, and whether the endpoint is to be switched off for it. */
interface Attempt {
  readonly result: string;
  readonly arrived: boolean;
  readonly over: boolean;
  readonly gone: boolean;
}

/** What a message is signed with, or undefined where the key that sealed it is no longer among `ENCRYPTION_KEYS`. */
async function openSecrets(
  { sealer }: JobsRoom,
  endpoint: Selectable<WebhookEndpointsTable>,
  now: Date,
): Promise<readonly string[] | undefined> {
  try {
    return await signingSecrets(sealer, endpoint, now);
  } catch (error) {
    if (error instanceof SealError) return undefined;
    throw error;
  }
}

/** One try. An endpoint that was switched off while the message waited is not asked. */
async function attempt(room: JobsRoom, message: WebhookMessage, options: DeliveryOptions): Promise<Attempt> {
  const endpoint = await room.store.queries.selectFrom("webhook_endpoints").selectAll()
    .where("id", "=", message.endpoint_id).executeTakeFirstOrThrow();
  // it may be on again by now: nothing is to be done to it
  if (endpoint.disabled_at !== null) {
    return { result: "endpoint_disabled", arrived: false, over: true, gone: false };
  }
  const now = new Date();
  const secrets = await openSecrets(room, endpoint, now);
  if (secrets === undefined) {
    return { result: "secret_unreadable", arrived: false, over: false, gone: false };
  }
  const headers = {
    "Content-Type": "application/json",
    "User-Agent": "IDAdapter-Webhooks/1",
    "webhook-id": message.id,
    "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
    "webhook-signature": secrets.map((secret) => new Webhook(secret).sign(message.id, now, message.body))
      .join(" "),
  };
  try {
    const { status } = await post(endpoint.url, headers, message.body, options);
    const [arrived, gone] = [status >= 200 && status <= 299, status === 410];
    return { result: String(status), arrived, over: arrived || gone, gone };
  } catch (error) {
    return {
      result: error instanceof AddressRefusedError ? "address_refused" : "no_answer",
      arrived: false,
      over: false,
      gone: false,
    };
  }
}

/**
 * Has this instance deliver messages. An endpoint that answers 410 is switched off; any other answer but 2xx, a
 * redirect among them, is tried again for a day.
 *
 * @param room the jobs room
 * @param options what requests may do
 * @returns stops
 */
export function deliverWebhooks(room: JobsRoom, options: DeliveryOptions): Promise<() => Promise<void>> {
  const { queries } = room.store;
  return room.queue.work(
    webhookQueue,
    options.concurrency,
    async ({ data: { id } }: Message<{ id: string }>) => {
      const message = await queries.selectFrom("webhook_messages").selectAll()
        .where("id", "=", id).where("state", "=", "pending").executeTakeFirst();
      // delivered by a try whose end was lost, or its endpoint was removed
      if (message === undefined) return;
      const { result, arrived, over: final, gone } = await attempt(room, message, options);
      if (!arrived) options.onFailure?.(message, result);
      const over = final || message.deliver_until <= new Date();
      // who sees the message failed may switch the endpoint on again: by then it is off
      if (gone) {
        await queries.updateTable("webhook_endpoints").set({ disabled_at: new Date() })
          .where("id", "=", message.endpoint_id).where("disabled_at", "is", null).execute();
      }
      await queries.updateTable("webhook_messages").set({
        state: arrived ? "delivered" : over ? "failed" : "pending",
        attempts: result === "endpoint_disabled" ? sql<number>`attempts` : sql<number>`attempts + 1`,
        last_result: result,
      }).where("id", "=", id).execute();
      if (!over) throw new Error(`not delivered: ${result}`);
    },
    { mostOfGroup: mostOfAccount },
  );
}

/**
 * Sends messages again that wait and that nothing carries any more.
 *
 * @param room the jobs room
 * @param most at a time, the oldest first
 */
export async function resendWebhooks({ store, queue }: JobsRoom, most: number): Promise<void> {
  await store.transaction(async (queries) => {
    const stranded = await queries.selectFrom("webhook_messages").select(["id", "account_id"])
      .where("state", "=", "pending")
      .where((where) => where.not(queue.carries([webhookQueue], sql.ref("webhook_messages.id"))))
      .orderBy("created_at").limit(most).forUpdate().skipLocked().execute();
    for (const { id, account_id: group } of stranded) {
      await queue.send(queries, webhookQueue, { id }, { group });
    }
  });
}

/**
 * The account's latest messages.
 *
 * @param room the jobs room
 * @param account whose
 * @returns at most 100, newest first
 */
export function listMessages(room: JobsRoom, account: string): Promise<WebhookMessage[]> {
  return room.store.queries.selectFrom("webhook_messages").selectAll().where("account_id", "=", account)
    .orderBy("created_at", "desc").orderBy("id").limit(100).execute();
}

/**
 * Sends a message again, with the same id and body, whatever became of it.
 *
 * @param room the jobs room
 * @param account whose
 * @param id which
 * @returns the message, or undefined when the account has none of that name
 */
export async function replayMessage(
  room: JobsRoom,
  account: string,
  id: string,
): Promise<WebhookMessage | undefined> {
  return await room.store.transaction(async (transaction) => {
    const message = await transaction.updateTable("webhook_messages").set({
      state: "pending",
      deliver_until: sql<Date>`now() + make_interval(hours => ${deliveryHours}::int)`,
    }).where("id", "=", id).where("account_id", "=", account).returningAll().executeTakeFirst();
    if (message !== undefined) {
      await room.queue.send(transaction, webhookQueue, { id }, { group: account });
    }
    return message;
  });
}
