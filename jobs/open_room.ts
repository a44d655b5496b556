/** Opens the jobs room on a store. */

import { defineUsageEvents } from "../billing/usage_events.ts";
import type { Queue } from "../store/queue.ts";
import type { Sealer } from "../store/sealing.ts";
import type { Store } from "../store/store.ts";
import type { ImageStore } from "./image_store.ts";
import { openNotices } from "./notices.ts";
import { defineGenerationQueues, type JobSettings, type JobsRoom } from "./room.ts";
import { defineSweep } from "./sweep.ts";
import { defineWebhooks } from "./webhooks/announce.ts";

/** What the room is made of. */
export interface RoomParts {
  readonly store: Store;
  readonly queue: Queue;
  readonly images: ImageStore;
  readonly sealer: Sealer;
  readonly settings: JobSettings;
}

/**
 * Makes the queues and starts listening for news.
 *
 * @param parts store, queue, image store, keys and figures
 * @returns the room; `await using` stops listening, store and queue stay open
 */
export async function openJobsRoom(parts: RoomParts): Promise<JobsRoom & AsyncDisposable> {
  await defineGenerationQueues(parts.queue, parts.settings.timeoutSeconds);
  await defineUsageEvents(parts.queue);
  await defineWebhooks(parts.queue);
  await defineSweep(parts.queue);
  const notices = await openNotices(parts.queue, crypto.randomUUID(), parts.store.kind === "embedded");
  return { ...parts, notices, [Symbol.asyncDispose]: () => notices[Symbol.asyncDispose]() };
}
