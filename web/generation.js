/** One generation from its request to its end, over as many connections as that takes. */

import { call } from "./api.js";
import { readEvents } from "./event_stream.js";
import { requestLost } from "./pending_requests.js";
import { isPassing, pauseBeforeRetry } from "./retry.js";

/** The service writes at least every 15 seconds; a connection silent for longer is taken for lost. */
const SILENCE_MILLISECONDS = 40_000;

/** An Idempotency-Key: a UUID v4. `crypto.randomUUID` is missing where the page comes over plain http. */
export function createKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Refusals of a request that is new to the service: nothing was taken on under its key. */
const NOT_TAKEN_ON = ["queue_full", "too_many_generations"];

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
 * @param {number} job.expires when the key may be forgotten (milliseconds since 1970): from then on the request is not repeated
 * @param {{mayHaveArrived: boolean}} job.sent whether the request may have arrived; true where it was sent before, by a page that
 * was loaded again, and kept up to date
 * @param {string} [job.id] of a generation that goes on from before
 * @param {(event: string, data: any, id: string) => void} job.onEvent every event once, the final one too
 * @param {(id: string) => void} job.onAccepted told the generation's id as soon as it is known
 * @param {(lost: boolean) => void} job.onConnection told when the connection is lost and when it is back
 * @param {AbortSignal} job.signal ends the watching; the generation itself goes on
 * @throws {ProblemError} when the request is refused
 * @throws {Error} when one of the three listeners throws, with its error as the cause
 */
export async function followGeneration(job) {
  const { form, key, expires, sent, onEvent, onAccepted, onConnection, signal } = job;
  let { id } = job;
  let lastEvent;
  for (let attempt = 0; !signal.aborted; attempt++) {
    if (id === undefined && sent.mayHaveArrived && Date.now() > expires) throw requestLost();
    let failure;
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
        sent.mayHaveArrived = true;
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
      if (signal.aborted) return;
      const { code, status } = error.problem ?? {};
      if (NOT_TAKEN_ON.includes(code)) sent.mayHaveArrived = false;
      else if (status >= 500) sent.mayHaveArrived = true;
      if (!isPassing(error, id !== undefined || sent.mayHaveArrived)) throw error;
      failure = error;
      sent.mayHaveArrived = true;
    } finally {
      clearTimeout(timer);
      globalThis.removeEventListener("offline", cut);
      signal.removeEventListener("abort", cut);
    }
    if (signal.aborted) return;
    onConnection(true);
    await pauseBeforeRetry(attempt, failure, signal);
  }
}
