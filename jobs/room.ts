/** What every part of the jobs room works with. */

import type { PriceList } from "../billing/price.ts";
import type { Queue } from "../store/queue.ts";
import type { Sealer } from "../store/sealing.ts";
import type { Store } from "../store/store.ts";
import type { ImageStore } from "./image_store.ts";
import type { Notices } from "./notices.ts";

/** Figures the operator chooses. */
export interface JobSettings {
  readonly prices: PriceList;
  /** credits a new account begins with */
  readonly initialCredit: number;
  /** queued and running generations of one account at most */
  readonly mostAtOnce: number;
  /** queued generations of all accounts at most */
  readonly mostQueued: number;
  /** how long a generation may take from its request on: then it expires in the queue, or fails while it runs */
  readonly timeoutSeconds: number;
  /** whether charges are told to the operator's billing */
  readonly usageEvents: boolean;
  /** how long a finished generation is shown and its pictures are kept */
  readonly resultSeconds: number;
}

/** The room's parts. */
export interface JobsRoom {
  readonly store: Store;
  readonly queue: Queue;
  readonly notices: Notices;
  readonly images: ImageStore;
  readonly sealer: Sealer;
  readonly settings: JobSettings;
}

/** Name of the queue that carries generations. */
export const generationQueue = "generations";

/** Where generations go that were started {@linkcode mostTries} times and never came to an end. */
export const poisonQueue = "generations_given_up";

/** Starts of one generation at most. */
export const mostTries = 3;

/** A lease: renewed at half its time while a generation runs; the least that pg-boss allows. */
export const leaseSeconds = 10;

/** The most that pg-boss lets a message be worked on. */
const mostRunSeconds = 86_400;

/** How much longer than its generation may take a message is worked on: an outage may have to be seen through. */
const outageSeconds = 3_000;

/**
 * Makes the queues that carry generations.
 *
 * @param queue of the store
 * @param timeoutSeconds how long a generation may take
 */
export async function defineGenerationQueues(queue: Queue, timeoutSeconds: number): Promise<void> {
  await queue.define(poisonQueue, {
    notify: true,
    // whoever gives a generation up may be killed at that, too
    heartbeatSeconds: leaseSeconds,
    retryLimit: 1000,
    retryDelay: 5,
    retentionSeconds: 30 * 86_400,
  });
  await queue.define(generationQueue, {
    notify: true,
    retryLimit: mostTries - 1,
    // what failed for a moment's reason does not use its tries up within that moment
    retryDelay: 1,
    heartbeatSeconds: leaseSeconds,
    // longer than any generation takes: a run that hangs is taken from its instance after this
    expireInSeconds: Math.min(mostRunSeconds, timeoutSeconds + outageSeconds),
    deleteAfterSeconds: 3600,
    deadLetter: poisonQueue,
  });
}
