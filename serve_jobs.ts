/** Puts database, queue, image store and workers together, as the configuration says. */

import { deliverUsage } from "./billing/usage_events.ts";
import type { Config } from "./config.ts";
import { DurableGenerations, type GenerationObserver } from "./jobs/durable_generations.ts";
import type { Executor } from "./jobs/executor.ts";
import { openJobsRoom } from "./jobs/open_room.ts";
import { keepImagesInPostgres } from "./jobs/postgres_images.ts";
import { recoverRunning, runGenerations, type Running } from "./jobs/run.ts";
import { keepImagesInS3 } from "./jobs/s3_images.ts";
import { runSweep } from "./jobs/sweep.ts";
import { deliverWebhooks } from "./jobs/webhooks/deliver.ts";
import { post } from "./jobs/webhooks/post.ts";
import type { ServedJobs } from "./routes/app_options.ts";
import { errorFields, type LogFields, type Logger } from "./routes/logger.ts";
import { openEmbeddedStore } from "./store/embedded_store.ts";
import { loadEncryptionKeys } from "./store/encryption_keys.ts";
import { openQueue, type Queue } from "./store/queue.ts";
import { createSealer } from "./store/sealing.ts";
import { openServerStore } from "./store/server_store.ts";
import { persist } from "./store/persist.ts";
import { ObjectStoreError } from "./store/unavailable.ts";
import type { Store } from "./store/store.ts";

/** Messages that leave at a time, and how long each may take. */
const outgoing = { concurrency: 16, timeout: 15_000 };

/** The jobs of this instance. */
export interface JobsService extends ServedJobs {
  /**
   * Begins to take generations.
   *
   * @param concurrency how many at a time
   * @param onBegunAgain told of each that is begun again because an instance died or a run failed
   */
  run(executor: Executor, concurrency: number, onBegunAgain?: () => void): Promise<void>;
  /**
   * Takes no more, waits for those that run here and, on a server, for those that are watched here and that another
   * instance runs; hands back what is left here after the grace. Ends seconds later whatever hangs.
   */
  drain(graceMilliseconds: number): Promise<void>;
  /** Closes everything; the process is about to end. */
  close(): Promise<void>;
}

/** What is known of a fault; what the image store said quotes no request. */
function faultFields(error: unknown): LogFields {
  return { ...errorFields(error), ...(error instanceof ObjectStoreError ? { reason: error.message } : {}) };
}

/** Where something was posted to: no path, query or password, which may be secret. */
function hostOf(url: string): string {
  return new URL(url).host;
}

/** Opens the store that is configured. */
function openStore({ store }: Config["durable"], onConnectionLost: (error: Error) => void): Promise<Store> {
  return store.kind === "embedded"
    ? openEmbeddedStore(store.folder)
    : openServerStore({ url: store.url, onConnectionLost });
}

/**
 * Opens a store and its queue.
 *
 * @param open opens the store
 * @param onError hears of faults of the queue's own
 * @returns both; where the queue cannot be opened, the store is closed again
 */
export async function openStoreAndQueue(
  open: () => Promise<Store>,
  onError: (error: Error) => void,
): Promise<{ readonly store: Store; readonly queue: Queue }> {
  const store = await open();
  try {
    return { store, queue: await openQueue(store, { onError }) };
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Opens the database and everything on it; waits as long as a server cannot be reached.
 *
 * @param config of the service
 * @param log where lines go
 * @param observe told of every event of generations that were asked for here
 * @returns the jobs; they take none until `run`
 */
export async function openJobs(
  config: Config,
  log: Logger,
  observe: GenerationObserver,
): Promise<JobsService> {
  const { durable } = config;
  const warn = (message: string) => (error: Error) => log("warn", message, errorFields(error));
  const sealer = await createSealer(await loadEncryptionKeys(durable.encryption));
  const { store, queue } = await persist(async () => {
    try {
      return await openStoreAndQueue(
        () => openStore(durable, warn("a database connection was lost")),
        warn("the queue met a fault"),
      );
    } catch (error) {
      log("warn", "the database cannot be opened", errorFields(error));
      throw error;
    }
  }, { signal: new AbortController().signal, pause: 2_000 });
  const room = await openJobsRoom({
    store,
    queue,
    sealer,
    images: durable.s3 === undefined ? keepImagesInPostgres(store.queries) : await keepImagesInS3(durable.s3),
    settings: {
      prices: durable.prices,
      initialCredit: durable.initialCredit,
      mostAtOnce: durable.generationsAtOnce,
      mostQueued: config.maxQueue,
      timeoutSeconds: config.generationTimeoutSeconds,
      usageEvents: durable.usageUrl !== undefined,
      resultSeconds: config.resultTtlSeconds,
    },
  });
  const generations = new DurableGenerations(
    room,
    observe,
    (id, error) => log("warn", "news of a generation cannot be read yet", { id, ...faultFields(error) }),
  );
  const stops = [
    await runSweep(room, (error) => log("error", "housekeeping did not come to its end", faultFields(error))),
    await deliverWebhooks(room, {
      ...outgoing,
      allowPrivate: durable.webhooksToPrivate,
      onFailure: ({ id, endpoint_id, attempts }, result) =>
        log("warn", "a webhook did not arrive", { id, endpoint: endpoint_id, attempt: attempts + 1, result }),
    }),
  ];
  if (durable.usageUrl !== undefined) {
    const host = hostOf(durable.usageUrl);
    stops.push(
      await deliverUsage(store, queue, durable.usageUrl, async (url, headers, body) => {
        // the operator's own address: wherever it is, it is meant
        const { status } = await post(url, headers, body, { allowPrivate: true, timeout: outgoing.timeout });
        return status;
      }, (id, result) => log("warn", "a usage event did not arrive", { id, host, result })),
    );
  }
  let running: Running | undefined;
  return {
    room,
    generations,
    requestsPerMinute: durable.requestsPerMinute,
    webhooksToPrivate: durable.webhooksToPrivate,
    async run(executor, concurrency, onBegunAgain = () => {}) {
      await recoverRunning(room);
      running = await runGenerations(room, executor, {
        concurrency,
        onBegunAgain: (id) => {
          log("warn", "a generation is begun again: the run before it came to no end", { id });
          onBegunAgain();
        },
        onFault: (id, error) => log("error", "a run of a generation failed", { id, ...faultFields(error) }),
      });
    },
    async drain(graceMilliseconds) {
      const end = performance.now() + graceMilliseconds;
      const ids = await running?.stop(graceMilliseconds) ?? [];
      if (ids.length > 0) log("warn", "unfinished, back in the queue", { ids });
      await generations.close(end - performance.now());
    },
    async close() {
      await Promise.all(stops.map((stop) => stop()));
      await room[Symbol.asyncDispose]();
      await queue[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}
