/** The queue: pg-boss on the store's own database, so that a message is sent in the transaction that causes it. */

import type { JsonObject } from "./json.ts";
import { fromKysely, type Job, PgBoss, type Queue as QueueDefinition } from "pg-boss";
import type { Queries, Store } from "./store.ts";

/** What {@linkcode openQueue} takes beside the store. */
export interface QueueSettings {
  /** hears of faults of the queue's own housekeeping, an outage of the database among them */
  readonly onError?: (error: Error) => void;
  /** how often abandoned messages are looked for, in seconds */
  readonly superviseSeconds?: number;
}

/** One message as its handler gets it. */
export interface Message<Data> {
  readonly id: string;
  readonly data: Data;
  /** aborted when the message is no longer this worker's: canceled, or its lease ran out */
  readonly signal: AbortSignal;
}

/** How a queue hands out its messages: tries, delays, leases, and where messages go that failed too often. */
export type QueuePolicy = Omit<QueueDefinition, "name">;

/** The open queue; `await using` stops it. */
export interface Queue extends AsyncDisposable {
  /** Makes a queue, or gives it the policy as it is now. */
  define(name: string, policy: QueuePolicy): Promise<void>;
  /** Sends in a transaction: nobody sees the message before the commit. @returns the message's id */
  send(transaction: Queries, name: string, data: JsonObject, id?: string): Promise<string>;
  /** Takes a message back, or from whoever works on it. */
  cancel(transaction: Queries, name: string, id: string): Promise<void>;
  /** Takes messages from a worker that is known to be dead: each is tried again, or given up after its last try. */
  abandon(name: string, ids: readonly string[]): Promise<void>;
  /** Marks a message as done, in the transaction that did it. */
  complete(transaction: Queries, name: string, id: string): Promise<void>;
  /**
   * Has messages handled, `concurrency` at a time; a handler that throws has its message tried again.
   *
   * @returns stops taking messages and resolves when those under way are handled
   */
  work<Data extends JsonObject>(
    name: string,
    concurrency: number,
    handle: (message: Message<Data>) => Promise<void>,
  ): Promise<() => Promise<void>>;
  /** Has an empty message sent at the times of a cron expression, once over all instances. */
  schedule(name: string, cron: string): Promise<void>;
  /**
   * Hears what is sent with `pg_notify`, from any instance; goes on after an outage.
   *
   * @param onReconnect something may have been missed
   */
  listen(
    channel: string,
    onNotice: (payload: string) => void,
    onReconnect: () => void,
  ): Promise<AsyncDisposable>;
  /** Looks for abandoned messages now. */
  supervise(): Promise<void>;
}

/** pg-boss keeps its tables in this schema. */
export const queueSchema = "queue";

/**
 * Opens the queue of a store.
 *
 * @param store open and migrated
 * @param settings where faults are told, how often leases are checked
 * @returns the queue; stop it before the store is closed
 */
export async function openQueue(store: Store, settings: QueueSettings = {}): Promise<Queue> {
  const { onError = () => {}, superviseSeconds = 2 } = settings;
  const boss = new PgBoss({
    ...store.queueConnection,
    schema: queueSchema,
    useListenNotify: true,
    superviseIntervalSeconds: superviseSeconds,
    monitorIntervalSeconds: superviseSeconds,
    // the operator's own tools look after vacuum and indexes; the embedded database has no such processes
    monitorVacuum: false,
    reindex: store.kind === "server",
    registerInstance: false,
  });
  boss.on("error", onError);
  await boss.start();
  return {
    async define(name, policy) {
      await boss.createQueue(name, policy);
      // one that an earlier release made gets today's figures; how it hands out messages never changes
      const { policy: _policy, partition: _partition, ...figures } = policy;
      await boss.updateQueue(name, figures);
    },
    async send(transaction, name, data, id) {
      const sent = await boss.send(name, data, {
        db: fromKysely(transaction),
        ...(id === undefined ? {} : { id }),
      });
      if (sent === null) throw new Error(`the queue ${name} took no message`);
      return sent;
    },
    async cancel(transaction, name, id) {
      await boss.cancel(name, id, { db: fromKysely(transaction) });
    },
    async abandon(name, ids) {
      if (ids.length > 0) await boss.fail(name, [...ids], { message: "its worker died" });
    },
    async complete(transaction, name, id) {
      await boss.complete(name, id, null, { db: fromKysely(transaction) });
    },
    async work<Data extends JsonObject>(
      name: string,
      concurrency: number,
      handle: (message: Message<Data>) => Promise<void>,
    ) {
      const worker = await boss.work<Data>(
        name,
        { batchSize: 1, localConcurrency: concurrency, notifyPollingIntervalSeconds: 2 },
        async (jobs: Job<Data>[]) => {
          for (const { id, data, signal } of jobs) await handle({ id, data, signal });
        },
      );
      return () => boss.offWork(name, { id: worker, wait: true });
    },
    async schedule(name, cron) {
      await boss.schedule(name, cron);
    },
    async listen(channel, onNotice, onReconnect) {
      const database = boss.getDb();
      if (database.listen === undefined) throw new Error("the database connection cannot listen");
      const handle = await database.listen(channel, onNotice, onReconnect);
      return { [Symbol.asyncDispose]: () => handle.close() };
    },
    supervise: () => boss.supervise(),
    [Symbol.asyncDispose]: () => boss.stop({ graceful: true, timeout: 30_000 }),
  };
}
