/**
 * Requests that have not ended, with their photos, in IndexedDB: a page that is loaded again before the service answered
 * sends the same again, under the same Idempotency-Key. Which of them is its own, the tab remembers.
 */

import { ProblemError } from "./api.js";
import { openStore } from "./database.js";

/** The service remembers a key for 24 hours; later the same request is another one, and paid again. An hour is for clocks. */
export const KEY_MILLISECONDS = 23 * 3_600_000;

const run = openStore("idadapter.requests", "requests", "key");

/**
 * Keeps a request until it has ended. Where the browser keeps nothing the request goes out all the same.
 *
 * @param {{key: string, time: number, request: object, photo: Blob}} pending
 */
export async function keepRequest(pending) {
  await run("readwrite", (store) => store.put(pending)).catch(() => {});
}

/**
 * The photo of a request that has not ended.
 *
 * @param {string} key Idempotency-Key
 * @returns {Promise<Blob | undefined>} undefined when it is not kept
 */
export async function findPhoto(key) {
  const pending = await run("readonly", (store) => store.get(key)).catch(() => undefined);
  return pending?.photo;
}

/** Removes a request and its photo. */
export async function removeRequest(key) {
  await run("readwrite", (store) => store.delete(key)).catch(() => {});
}

/** Removes requests whose tab was closed before they ended, as soon as their keys are too old. */
export async function removeOldRequests() {
  const all = await run("readonly", (store) => store.getAll()).catch(() => []);
  for (const { key, time } of all) {
    if (Date.now() - time >= KEY_MILLISECONDS) await removeRequest(key);
  }
}

/** What is told when a request that may have arrived cannot be sent again. */
export function requestLost() {
  return new ProblemError({
    code: "request_lost",
    status: 0,
    title: "The last request is lost",
    detail: "The service had not answered, and the request cannot be sent again.",
    remedy: "If it had arrived, it may be charged.",
  });
}
