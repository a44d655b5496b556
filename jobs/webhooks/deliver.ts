/** Delivers webhook messages as Standard Webhooks 1.0 has it. */

import { type Selectable, sql } from "kysely";
import { Webhook } from "standardwebhooks";
import type { Message } from "../../store/queue.ts";
import type { WebhookEndpointsTable, WebhookMessagesTable } from "../../store/schema.ts";
import { SealError } from "../../store/sealing.ts";
import type { Queries } from "../../store/store.ts";
import type { JobsRoom } from "../room.ts";
import { deliveryHours, hasBacklog, priorities, webhookQueue } from "./announce.ts";
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

/**
 * Messages of one endpoint that are on their way at a time. Who answers slowly keeps nobody else waiting: not its account's
 * other endpoints and, as an account has ten and an instance delivers sixteen at a time, no other account. Where several do
 * so, {@linkcode priorities} have the others come first.
 */
const mostOfEndpoint = 1;

/** As many messages wait for the endpoint as may. */
export class TooManyPendingError extends Error {
  override readonly name = "TooManyPendingError";
}

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
    async ({ id: carrier, data: { id } }: Message<{ id: string }>) => {
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
      let update = queries.updateTable("webhook_messages").set({
        state: arrived ? "delivered" : over ? "failed" : "pending",
        attempts: result === "endpoint_disabled" ? sql<number>`attempts` : sql<number>`attempts + 1`,
        last_result: result,
      }).where("id", "=", id);
      // what has arrived has, however late; a failure is nothing to a message that is over, or that was sent again meanwhile
      if (!arrived) {
        update = update.where("state", "=", "pending")
          .where(sql<boolean>`coalesce(queue_id, ${carrier}) = ${carrier}`);
      }
      const ended = await update.returning("state").executeTakeFirst();
      if (ended?.state === "pending") throw new Error(`not delivered: ${result}`);
    },
    { mostOfGroup: mostOfEndpoint },
  );
}

/**
 * Gives up messages whose day is over. One that is on its way is not tried again; should it arrive, it is delivered.
 *
 * @param room the jobs room
 * @param most at a time, the oldest first
 */
export async function giveUpWebhooks({ store, queue }: JobsRoom, most: number): Promise<void> {
  await store.transaction(async (queries) => {
    const late = await queries.selectFrom("webhook_messages").select(["id", "queue_id"])
      .where("state", "=", "pending").where("deliver_until", "<=", sql<Date>`now()`)
      .orderBy("deliver_until").limit(most).forUpdate().skipLocked().execute();
    if (late.length === 0) return;
    await queries.updateTable("webhook_messages")
      .set({ state: "failed", last_result: sql<string>`coalesce(last_result, 'expired')` })
      .where("id", "in", late.map(({ id }) => id)).execute();
    await queue.cancel(queries, webhookQueue, ...late.flatMap(({ queue_id }) => queue_id ?? []));
  });
}

/**
 * Sends messages again that wait and that nothing carries any more.
 *
 * @param room the jobs room
 * @param most at a time, the oldest first
 */
export async function resendWebhooks({ store, queue }: JobsRoom, most: number): Promise<void> {
  await store.transaction(async (queries) => {
    const stranded = await queries.selectFrom("webhook_messages").select(["id", "endpoint_id"])
      .where("state", "=", "pending")
      .where((where) => where.not(queue.carries([webhookQueue], sql.ref("webhook_messages.id"))))
      .orderBy("created_at").limit(most).forUpdate().skipLocked().execute();
    for (const { id, endpoint_id: group } of stranded) {
      const queue_id = await queue.send(queries, webhookQueue, { id }, {
        group,
        priority: priorities.further,
      });
      await queries.updateTable("webhook_messages").set({ queue_id }).where("id", "=", id).execute();
    }
  });
}

/** Which messages are listed. */
export interface ListOptions {
  /** those in this state alone */
  readonly state?: WebhookMessage["state"] | undefined;
  /** those before the one of this id */
  readonly before?: string | undefined;
}

/**
 * The account's messages.
 *
 * @param room the jobs room
 * @param account whose
 * @param options which of them
 * @returns at most 100, newest first; none when `before` is none of the account's
 */
export function listMessages(
  { store }: JobsRoom,
  account: string,
  { state, before }: ListOptions = {},
): Promise<WebhookMessage[]> {
  const { queries } = store;
  let list = queries.selectFrom("webhook_messages").selectAll().where("account_id", "=", account);
  if (state !== undefined) list = list.where("state", "=", state);
  if (before !== undefined) {
    const last = queries.selectFrom("webhook_messages").select(["created_at", "id"])
      .where("id", "=", before).where("account_id", "=", account);
    list = list.where(({ refTuple }) => sql<boolean>`${refTuple("created_at", "id")} < (${last})`);
  }
  return list.orderBy("created_at", "desc").orderBy("id", "desc").limit(100).execute();
}

/**
 * Sends a message again, before those that wait for its endpoint, with the same id and body, whatever became of it, and with a new day to arrive in. What has
 * carried it until now carries it no more: a try that is under way counts only if it arrives.
 *
 * @param room the jobs room
 * @param account whose
 * @param id which
 * @returns the message, or undefined when the account has none of that name
 * @throws {TooManyPendingError} when its endpoint has too many waiting, and this one is not among them
 */
export async function replayMessage(
  room: JobsRoom,
  account: string,
  id: string,
): Promise<WebhookMessage | undefined> {
  return await room.store.transaction(async (transaction) => {
    const message = await transaction.selectFrom("webhook_messages").selectAll()
      .where("id", "=", id).where("account_id", "=", account).forUpdate().executeTakeFirst();
    if (message === undefined) return undefined;
    if (message.state !== "pending") await requireRoom(transaction, message);
    if (message.queue_id !== null) await room.queue.cancel(transaction, webhookQueue, message.queue_id);
    const group = message.endpoint_id;
    return await transaction.updateTable("webhook_messages").set({
      state: "pending",
      deliver_until: sql<Date>`now() + make_interval(hours => ${deliveryHours}::int)`,
      queue_id: await room.queue.send(transaction, webhookQueue, { id }, {
        group,
        priority: priorities.first,
      }),
    }).where("id", "=", id).returningAll().executeTakeFirstOrThrow();
  });
}

/** @throws {TooManyPendingError} when there is none for one message more */
async function requireRoom(
  transaction: Queries,
  { account_id, endpoint_id }: WebhookMessage,
): Promise<void> {
  const { full } = await transaction.selectNoFrom(hasBacklog(account_id, endpoint_id).as("full"))
    .executeTakeFirstOrThrow();
  if (full) throw new TooManyPendingError("As many messages wait for this endpoint as may.");
}
