/** Server-sent events (WHATWG HTML, 9.2) of a generation. */

import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import type { GenerationEvent } from "../jobs/generation.ts";
import type { AppEnv } from "./app_options.ts";
import { type ServerSentEvent, toServerSentEvent } from "./generation_answer.ts";

/** Proxies close connections that are silent for half a minute or more. */
const KEEP_ALIVE_MILLISECONDS = 15_000;

/**
 * Answers with events as they come, and comments while none do.
 *
 * @param c the request
 * @param id the generation's name
 * @param watch its events; the signal is aborted when the client hangs up
 * @param onLeft what to tell last when the process ends before the generation does; nothing, and the client comes again
 * @param write an event as it is sent; undefined for one that is not
 * @returns 200 with the stream, which ends with the final event
 */
export async function streamEvents(
  c: Context<AppEnv>,
  id: string,
  watch: (signal: AbortSignal) => Promise<AsyncIterable<GenerationEvent> | undefined>,
  onLeft: () => ServerSentEvent | undefined = () => undefined,
  write: (event: GenerationEvent) => ServerSentEvent | undefined = (event) => toServerSentEvent(id, event),
): Promise<Response> {
  const hangUp = new AbortController();
  const events = await watch(hangUp.signal) ?? [];
  // proxies that gather answers before they pass them on would turn progress into a long silence
  c.header("X-Accel-Buffering", "no");
  const response = streamSSE(c, async (stream) => {
    stream.onAbort(() => hangUp.abort());
    const timer = setInterval(() => void stream.write(": waiting\n\n"), KEEP_ALIVE_MILLISECONDS);
    try {
      let last: GenerationEvent["type"] | undefined;
      for await (const event of events) {
        const written = write(event);
        if (written !== undefined) await stream.writeSSE(written);
        last = event.type;
      }
      const left = last === "succeeded" || last === "failed" || hangUp.signal.aborted ? undefined : onLeft();
      if (left !== undefined) await stream.writeSSE(left);
    } finally {
      clearInterval(timer);
    }
  });
  response.headers.set("Cache-Control", "no-store");
  return response;
}
