/** One generation from its request to its end, over as many connections as that takes. */

import { call, isConnectionLoss, ProblemError } from "./api.js";
import { readEvents } from "./event_stream.js";

/** The service writes at least every 15 seconds; a connection silent for longer is taken for lost. */
const SILENCE_MILLISECONDS = 40_000;

/** How long a browser that says it is offline is believed: a service on the same machine answers without a network. */
const OFFLINE_MILLISECONDS = 5_000;

/** Resolves after a short, growing pause, and offline after some seconds more or as soon as the browser is back. */
async function pauseUntilOnline(attempt, signal) {
  await new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** attempt, 8_000)));
  if (navigator.onLine) return;
  await new Promise((resolve) => {
    setTimeout(resolve, OFFLINE_MILLISECONDS);
    globalThis.addEventListener("online", resolve, { once: true });
    signal.addEventListener("abort", resolve, { once: true });
  });
}

/** What the service answers before it took anything on: it is starting, stopping or busy. */
const PASSING = ["not_ready", "shutting_down", "store_unavailable", "keys_unavailable"];

/**
 * Whether asking again can help. What is answered in the service's place may hide that the request arrived. Of what was
 * taken on, only the answer is late: then too many requests pass as well.
 */
function isPassing(error, accepted) {
  if (isConnectionLoss(error)) return true;
  if (!(error instanceof ProblemError)) return false;
  const { code, status } = error.problem;
  return PASSING.includes(code) || (code === "unexpected_answer" && status >= 500) ||
    (accepted && (status === 429 || code === "image_store_unavailable"));
}

/** An Idempotency-Key: a UUID v4. `crypto.randomUUID` is missing where the page comes over plain http. */
export function createKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * Asks about a generation that was taken on, as often as it takes.
 *
 * @template Answer
 * @param {() => Promise<Answer>} ask sends the request and reads its answer
 * @param {(lost: boolean) => void} onConnection told when there was no answer
 * @param {AbortSignal} signal ends the asking
 * @returns {Promise<Answer>}
 * @throws {ProblemError} when asking again does not help
 */
export async function askUntilAnswered(ask, onConnection, signal) {
  for (let attempt = 0;; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (signal.aborted || !isPassing(error, true)) throw error;
    }
    onConnection(true);
    await pauseUntilOnline(attempt, signal);
  }
}

/** A fault of whoever is told must not look like the TypeError that `fetch` throws for a lost connection. */
function tell(listener, ...told) {
  try {
    listener(...told);
  } catch (error) {
    throw new Error("The page could not show what came.", { cause: error });
  }
}

/**
 * Makes portraits. With `Prefer: respond-async` and an Idempotency-Key a lost connection cancels and costs nothing:
 * the same request is sent again until it is known to have arrived, and from then on its events are taken up after the last
 * one seen.
 *
 * @param {object} job
 * @param {FormData} [job.form] the request; left out for a generation that goes on from before
 * @param {string} job.key Idempotency-Key
 * @param {string} [job.id] of a generation that goes on from before
 * @param {(event: string, data: any, id: string) => void} job.onEvent every event once, the final one too
 * @param {(id: string) => void} job.onAccepted told the generation's id as soon as it is known
 * @param {(lost: boolean) => void} job.onConnection told when the connection is lost and when it is back
 * @param {AbortSignal} job.signal ends the watching; the generation itself goes on
 * @throws {ProblemError} when the request is refused
 * @throws {Error} when one of the three listeners throws, with its error as the cause
 */
export async function followGeneration({ form, key, id, onEvent, onAccepted, onConnection, signal }) {
  let lastEvent;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const connection = new AbortController();
    const cut = () => connection.abort();
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(cut, SILENCE_MILLISECONDS);
    };
    globalThis.addEventListener("offline", cut);
    signal.addEventListener("abort", cut);
    try {
      heard();
      const headers = { Accept: "text/event-stream" };
      let response;
      if (id === undefined) {
        response = await call("/v1/generations", {
          method: "POST",
          headers: { ...headers, Prefer: "respond-async", "Idempotency-Key": key },
          body: form,
          signal: connection.signal,
        });
        id = response.headers.get("Content-Location")?.split("/").at(-1);
        if (id !== undefined) tell(onAccepted, id);
      } else {
        if (lastEvent !== undefined) headers["Last-Event-ID"] = lastEvent;
        response = await call(`/v1/generations/${id}/events`, { headers, signal: connection.signal });
      }
      tell(onConnection, false);
      if (response.status === 204) return;
      for await (const { event, data, id: eventId } of readEvents(response.body, heard)) {
        attempt = 0;
        lastEvent = eventId ?? lastEvent;
        tell(onEvent, event, JSON.parse(data));
        if (event === "succeeded" || event === "failed") return;
      }
    } catch (error) {
      if (!isPassing(error, id !== undefined)) throw error;
    } finally {
      clearTimeout(timer);
      globalThis.removeEventListener("offline", cut);
      signal.removeEventListener("abort", cut);
    }
    if (signal.aborted) return;
    onConnection(true);
    await pauseUntilOnline(attempt, signal);
  }
}
