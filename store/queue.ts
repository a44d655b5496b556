/** The queue: pg-boss on the store's own database, so that a message is sent in the transaction that causes it. */

import type { JsonObject } from "./json.ts";
import { type RawBuilder, sql } from "kysely";
import { fromKysely, type Job, PgBoss, type Queue as QueueDefinition } from "pg-boss";
import type { Queries, QueueConnection, Store } from "./store.ts";

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
  /** whether it still is this worker's, to be asked within a statement; the signal may be seconds late */
  readonly held: RawBuilder<boolean>;
  /** how many tries have failed, or been given up with their worker, before this one */
  readonly failedTries: number;
}

/** What a message may be sent with. */
export interface SendOptions {
  /** its id, where the sender must know it beforehand */
  readonly id?: string;
  /** whose message it is, for {@linkcode WorkOptions.mostOfGroup} */
  readonly group?: string;
  /** the higher, the sooner it is taken; of equals, first come first served; 0 by default */
  readonly priority?: number;
}

/** How messages are taken. */
export interface WorkOptions {
  /** messages of one group that are handled at a time by an instance; left out, as many as there are */
  readonly mostOfGroup?: number;
}

/**
 * How a queue hands out its messages: tries, delays, leases, and where messages go that failed too often. With `notify` a
 * message wakes a worker when it is committed; without, workers look every {@linkcode pollingSeconds}.
 */
export type QueuePolicy = Omit<QueueDefinition, "name">;

/** The open queue; `await using` stops it. */
export interface Queue extends AsyncDisposable {
  /** Makes a queue, or gives it the policy as it is now. */
  define(name: string, policy: QueuePolicy): Promise<void>;
  /** Sends in a transaction: nobody sees the message before the commit. @returns the message's id */
  send(transaction: Queries, name: string, data: JsonObject, options?: SendOptions): Promise<string>;
  /**
   * Tells within a statement whether a message carries something: one that waits, is tried again or is being handled.
   *
   * @param names of queues
   * @param id the `id` in the message's data, a column for example
   */
  carries(names: readonly string[], id: RawBuilder<string>): RawBuilder<boolean>;
  /** Takes messages back, or from whoever works on them. */
  cancel(transaction: Queries, name: string, ...ids: readonly string[]): Promise<void>;
  /** Takes messages from a worker that is known to be dead: each is tried again at once, or given up after its last try. */
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
    options?: WorkOptions,
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

/** How often a worker looks for messages that nobody woke it for: those tried again, and those sent during an outage. */
const pollingSeconds = 2;

/** What pg-boss fetches, and its types leave out. */
type FetchedJob<Data> = Job<Data> & { readonly groupId: string | null };

/** Messages are told on this channel by their queue's name. */
const wakeChannel = "queue_wake";

/** pg-boss keeps its tables in this schema. */
export const queueSchema = "queue";

const jobs = sql.table(`${queueSchema}.job`);

/**
 * Opens the queue of a store.
 *
 * @param store open and migrated
 * @param settings where faults are told, how often leases are checked
 * @returns the queue; stop it before the store is closed
 */
export async function openQueue(store: Store, settings: QueueSettings = {}): Promise<Queue> {
  const { onError = () => {}, superviseSeconds = 2 } = settings;
  const { queueConnection: connection } = store;
  // pg-boss hands on to node-postgres what it does not know itself
  if (connection.backend === "postgres") await migrateQueue({ ...connection, query_timeout: 0 }, onError);
  const boss = new PgBoss({
    ...connection,
    schema: queueSchema,
    migrate: connection.backend === "pglite",
    // its own notices wake every worker of a queue, and each asks the database: one of them is enough (`work`)
    useListenNotify: false,
    superviseIntervalSeconds: superviseSeconds,
    monitorIntervalSeconds: superviseSeconds,
    // the operator's own tools look after vacuum and indexes; the embedded database has no such processes
    monitorVacuum: false,
    reindex: store.kind === "server",
    registerInstance: false,
  });
  boss.on("error", onError);
  try {
    await boss.start();
    return await serveQueue(store, boss);
  } catch (error) {
    // it may have opened connections already
    await boss.stop({ graceful: false }).catch(onError);
    throw error;
  }
}

/** Brings the queue's tables to what this release needs, which with many messages takes as long as it takes. */
async function migrateQueue(connection: QueueConnection, onError: (error: Error) => void): Promise<void> {
  const boss = new PgBoss({ ...connection, schema: queueSchema, supervise: false, schedule: false });
  boss.on("error", onError);
  try {
    await boss.start();
  } finally {
    await boss.stop({ graceful: false });
  }
}

/** The queue on what has been started. */
async function serveQueue(store: Store, boss: PgBoss): Promise<Queue> {
  const notifying = new Set<string>();
  const wakers = new Map<string, Set<() => void>>();
  const wake = (name: string) => wakers.get(name)?.forEach((wakeOne) => wakeOne());
  const listen: Queue["listen"] = async (channel, onNotice, onReconnect) => {
    const database = boss.getDb();
    if (database.listen === undefined) throw new Error("the database connection cannot listen");
    const handle = await database.listen(channel, onNotice, onReconnect);
    return { [Symbol.asyncDispose]: () => handle.close() };
  };
  const subscription = await listen(wakeChannel, wake, () => [...wakers.keys()].forEach(wake));
  return {
    async define(name, { notify = false, ...policy }) {
      if (notify) notifying.add(name);
      await boss.createQueue(name, { ...policy, notify: false });
      // one that an earlier release made gets today's figures; how it hands out messages never changes
      const { policy: _policy, partition: _partition, ...figures } = policy;
      await boss.updateQueue(name, { ...figures, notify: false });
    },
    async send(transaction, name, data, { id, group, priority } = {}) {
      const sent = await boss.send(name, data, {
        db: fromKysely(transaction),
        ...(id === undefined ? {} : { id }),
        ...(group === undefined ? {} : { group: { id: group } }),
        ...(priority === undefined ? {} : { priority }),
      });
      if (sent === null) throw new Error(`the queue ${name} took no message`);
      if (notifying.has(name)) await sql`select pg_notify(${wakeChannel}, ${name})`.execute(transaction);
      return sent;
    },
    carries: (names, id) =>
      sql`exists (
        select from ${jobs} where name in (${sql.join(names)}) and state < 'completed' and data->>'id' = ${id}
      )`,
    async cancel(transaction, name, ...ids) {
      if (ids.length > 0) await boss.cancel(name, [...ids], { db: fromKysely(transaction) });
    },
    async abandon(name, ids) {
      if (ids.length === 0) return;
      await boss.fail(name, [...ids], { message: "its worker died" });
      // the pause before another try is for what may fail again at once
      await sql`
        update ${jobs} set start_after = now() where name = ${name} and state = 'retry' and id in (${
        sql.join(ids)
      })
      `.execute(store.queries);
      wake(name);
    },
    async complete(transaction, name, id) {
      await boss.complete(name, id, null, { db: fromKysely(transaction) });
    },
    async work<Data extends JsonObject>(
      name: string,
      concurrency: number,
      handle: (message: Message<Data>) => Promise<void>,
      { mostOfGroup }: WorkOptions = {},
    ) {
      const workers = Array.from({ length: concurrency }, () => ({ id: "", busy: false }));
      // messages under way, by group
      const groups = new Map<string, number>();
      const underWay = (group: string | null) => group === null ? 0 : groups.get(group) ?? 0;
      const count = (group: string | null, change: 1 | -1) => {
        if (group === null) return;
        const now = underWay(group) + change;
        if (now > 0) groups.set(group, now);
        else groups.delete(group);
      };
      // messages that were told of and that nobody has got yet
      let announced = 0;
      for (const worker of workers) {
        worker.id = await boss.work<Data>(
          name,
          {
            batchSize: 1,
            pollingIntervalSeconds: pollingSeconds,
            ...(mostOfGroup === undefined ? {} : { groupConcurrency: mostOfGroup }),
          },
          async (taken: Job<Data>[]) => {
            worker.busy = true;
            // one that nobody told of has been waiting, and may not be the only one
            const expected = announced > 0 && taken.every(({ retryCount }) => retryCount === 0);
            if (expected) announced--;
            try {
              for (const { id, data, signal, retryCount, groupId: group } of taken as FetchedJob<Data>[]) {
                const mine =
                  sql`name = ${name} and id = ${id} and state = 'active' and retry_count = ${retryCount}`;
                if (mostOfGroup !== undefined && underWay(group) >= mostOfGroup) {
                  // Workers that looked at once did not see each other's: it waits on, and that was no try. Not before
                  // pg-boss has taken it from here: its next holder is told from this one by the number of tries alone.
                  await sql`
                    update ${jobs} set state = 'created', started_on = null, heartbeat_on = null,
                      start_after = now() + interval '1 second'
                    where ${mine}
                  `.execute(store.queries);
                  continue;
                }
                count(group, 1);
                try {
                  const held = sql<boolean>`exists (select from ${jobs} where ${mine})`;
                  await handle({ id, data, signal, held, failedTries: retryCount });
                } finally {
                  count(group, -1);
                }
              }
              // whoever waits for what was handled is answered before the queue's own bookkeeping
              await new Promise((resolve) => setTimeout(resolve));
            } finally {
              worker.busy = false;
              if (!expected || announced > 0) {
                announced = 0;
                boss.notifyWorker(worker.id);
              }
            }
          },
        );
      }
      // in turn, so that two messages at once wake two; where all are busy, whoever is done first looks again
      const wakeOne = () => {
        announced++;
        const next = workers.findIndex(({ busy }) => !busy);
        const woken = next < 0 ? [] : workers.splice(next, 1);
        for (const { id } of woken) boss.notifyWorker(id);
        workers.push(...woken);
      };
      const own = wakers.get(name) ?? new Set();
      wakers.set(name, own.add(wakeOne));
      return async () => {
        own.delete(wakeOne);
        await Promise.all(workers.map(({ id }) => boss.offWork(name, { id, wait: true })));
      };
    },
    async schedule(name, cron) {
      await boss.schedule(name, cron);
    },
    listen,
    supervise: () => boss.supervise(),
    async [Symbol.asyncDispose]() {
      await subscription[Symbol.asyncDispose]();
      await boss.stop({ graceful: true, timeout: 30_000 });
    },
  };
}
