/** Endpoints that webhooks are delivered to, and what tests of them wait for. */

import { sql } from "kysely";
import { lockAccount } from "../../billing/ledger.ts";
import { accept } from "../../jobs/accept.ts";
import type { JobsRoom } from "../../jobs/room.ts";
import { withdraw } from "../../jobs/settle.ts";
import { listMessages, type WebhookMessage } from "../../jobs/webhooks/deliver.ts";
import { addEndpoint, type NewSecret } from "../../jobs/webhooks/endpoints.ts";
import { delay } from "../delay.ts";
import { requestFrom } from "./test_room.ts";

/** One request that arrived. */
export interface Delivery {
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** A customer's endpoint on loopback that answers with one status after another, the last for ever. */
export class Receiver implements AsyncDisposable {
  readonly #deliveries: Delivery[] = [];
  readonly #waiting: ((delivery: Delivery) => void)[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  /** @param statuses of its answers */
  constructor(readonly statuses: number[]) {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
      const delivery = { headers: Object.fromEntries(request.headers), body: await request.text() };
      const next = this.#waiting.shift();
      if (next === undefined) this.#deliveries.push(delivery);
      else next(delivery);
      const [status = 200] = this.statuses;
      if (this.statuses.length > 1) this.statuses.shift();
      return new Response(null, { status, headers: status === 302 ? { Location: this.url } : {} });
    });
  }

  /** where it is */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/hook`;
  }

  /** those that came and that nobody has asked for */
  get arrived(): number {
    return this.#deliveries.length;
  }

  /** The next that comes, or came and nobody has asked for. */
  next(): Promise<Delivery> {
    const delivery = this.#deliveries.shift();
    return delivery === undefined
      ? new Promise((resolve) => this.#waiting.push(resolve))
      : Promise.resolve(delivery);
  }

  /** @inheritDoc */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#server.shutdown();
  }
}

/** How deliveries are made: to loopback, one at a time. */
export const options = { allowPrivate: true, timeout: 5_000, concurrency: 1 };

/** Gives an account an endpoint. */
export function subscribe(room: JobsRoom, account: string, url: string): Promise<NewSecret> {
  return room.store.transaction(async (transaction) => {
    await lockAccount(transaction, account, room.settings.initialCredit);
    return await addEndpoint(transaction, room.sealer, account, url);
  });
}

/** Longer than anything here takes, in milliseconds. */
const tooLong = 30_000;

/** Waits for what another connection is about to write. */
export async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  const began = performance.now();
  while (true) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() - began > tooLong) throw new Error("it did not happen");
    await delay(20);
  }
}

/** Fails where something takes longer than it ever does. */
export async function soon<T>(awaited: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("it did not happen")), tooLong);
  try {
    return await Promise.race([awaited, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until one of alice's messages is in a state. */
export const settledMessage = (room: JobsRoom, state: "delivered" | "failed"): Promise<WebhookMessage> =>
  until(async () => (await listMessages(room, "alice")).find((message) => message.state === state));

/** A customer's endpoint on loopback that answers only when a test has it answer. */
export class SlowReceiver implements AsyncDisposable {
  readonly #waiting: ((status: number) => void)[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  /** requests so far */
  asked = 0;

  constructor() {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async () => {
      const { promise, resolve } = Promise.withResolvers<number>();
      this.#waiting.push(resolve);
      this.asked++;
      return new Response(null, { status: await promise });
    });
  }

  /** where it is */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/slow`;
  }

  /** Waits until it has been asked so often. */
  async heard(requests: number): Promise<void> {
    await until(() => Promise.resolve(this.asked >= requests || undefined));
  }

  /** Answers the request that has waited longest. */
  answer(status: number): void {
    this.#waiting.shift()!(status);
  }

  /** Answers the request that came last. */
  answerLatest(status: number): void {
    this.#waiting.pop()!(status);
  }

  /** @inheritDoc */
  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#waiting.length > 0) this.answer(200);
    await this.#server.shutdown();
  }
}

/** Ends a generation of an account, of which its endpoints are told. */
export async function endOne(room: JobsRoom, account: string): Promise<void> {
  await withdraw(room, (await accept(room, requestFrom(account))).id, "canceled");
}

/** Messages of the queue that carry webhook messages: those that wait, are tried again or are under way. */
export async function carriers(room: JobsRoom): Promise<readonly { id: string; state: string }[]> {
  const { rows } = await sql<{ id: string; state: string }>`
    select data->>'id' as id, state::text from queue.job where name = 'webhooks' and state < 'completed'
  `.execute(room.store.queries);
  return rows;
}

/** Writes messages that wait for an endpoint and that nothing carries. */
export async function fillBacklog(
  room: JobsRoom,
  account: string,
  endpoint: string,
  messages: number,
): Promise<void> {
  await sql`
    insert into webhook_messages (id, endpoint_id, account_id, type, body, deliver_until)
    select 'msg_' || gen_random_uuid(), ${endpoint}, ${account}, 'generation.canceled', '{}',
      now() + interval '1 day'
    from generate_series(1, ${messages}::int)
  `.execute(room.store.queries);
}
