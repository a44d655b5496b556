/** How a new generation is answered: with its result, with its events, or with where it is. */

import type { Context } from "hono";
import { type Generation, isFinal } from "../jobs/generation.ts";
import { FINAL_EVENT } from "../jobs/generation_record.ts";
import { createProblem } from "../openapi/problem.ts";
import { isStoreUnavailable, ObjectStoreError } from "../store/unavailable.ts";
import { type AppEnv, type AppOptions, requireJobs } from "./app_options.ts";
import { streamEvents } from "./event_stream.ts";
import { failureOf, generationPath, toState } from "./generation_answer.ts";
import { errorFields } from "./logger.ts";
import { ProblemError } from "./problem_error.ts";

/** Seconds a client should let pass between two looks at a generation. */
export const POLL_SECONDS = 1;

/** Headers of every answer that names a generation. */
const noStore = { "Cache-Control": "no-store" };

/** The process is about to end before the generation does. */
function leftAlone(): ProblemError {
  return new ProblemError("shutting_down", "The service is shutting down before the generation has ended.");
}

/** Cancels a generation that nobody waits for any more. */
function cancel({ account, id }: Generation, options: AppOptions): void {
  requireJobs(options).generations.cancel(account, id).catch((error) =>
    options.log("warn", "a generation that nobody waits for goes on", { id, ...errorFields(error) })
  );
}

/** Cancels a generation when its client hangs up. */
function bindToConnection(
  c: Context<AppEnv>,
  generation: Generation,
  options: AppOptions,
): void {
  // whoever sent a key may come back with it
  if (c.get("idempotency") !== undefined) return;
  const { signal } = c.req.raw;
  if (signal.aborted) cancel(generation, options);
  else signal.addEventListener("abort", () => cancel(generation, options), { once: true });
}

/** How {@linkcode waitForEnd} waits. */
interface WaitOptions {
  /** called when photos and prompt have been accepted */
  readonly onDenoise?: () => void;
  /** ends the wait */
  readonly signal?: AbortSignal;
}

/**
 * Waits for a generation's end.
 *
 * @param wait what to do meanwhile, and until when
 * @returns the generation, finished however
 * @throws {ProblemError} when the wait ends first
 */
async function waitForEnd(
  { account, id }: Generation,
  options: AppOptions,
  { onDenoise, ...until }: WaitOptions,
): Promise<Generation> {
  for await (const event of await requireJobs(options).generations.watch(account, id, until) ?? []) {
    if (event.type === "progress" && event.progress.stage === "denoise") onDenoise?.();
    if (event.type === "succeeded" || event.type === "failed") return event.generation;
  }
  throw leftAlone();
}

/** JSON once it is there. */
function streamJson(
  finished: Promise<Generation>,
  toBody: (generation: Generation) => unknown,
): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async start(controller) {
      const generation = await finished.catch(() => undefined);
      if (generation?.status === "succeeded") {
        controller.enqueue(new TextEncoder().encode(JSON.stringify(toBody(generation))));
        controller.close();
      } else {
        // Deno prints this error; the real one is logged where it was thrown, without its message
        controller.error(new Error("a generation failed after its answer had begun"));
      }
    },
  });
}

/**
 * Waits until photos and prompt of a generation have been accepted.
 *
 * @param c the request
 * @param generation just taken on; a client that hangs up cancels it
 * @param options of the app
 * @returns what resolves to the generation when it has ended, however
 * @throws {ProblemError} what refused it before its first step
 */
export async function waitForFirstStep(
  c: Context<AppEnv>,
  generation: Generation,
  options: AppOptions,
): Promise<{ readonly finished: Promise<Generation> }> {
  bindToConnection(c, generation, options);
  const accepted = Promise.withResolvers<void>();
  const finished = waitForEnd(generation, options, { onDenoise: accepted.resolve });
  // nobody could come back for it without a key
  finished.catch(() => c.get("idempotency") === undefined && cancel(generation, options));
  const early = await Promise.race([accepted.promise, finished]);
  if (early !== undefined && early.status !== "succeeded") throw failureOf(early);
  return { finished };
}

/**
 * Answers with the finished generation.
 *
 * The answer begins with the first denoising step, when photos and prompt have been accepted: over HTTP/1.1
 * `Deno.serve` notices a client that hangs up only while an answer is under way (seen with 2.9: `request.signal` stays
 * silent after a body that came in several packets). From then on nothing but the service's own failure can come,
 * and that cuts the answer off.
 *
 * @param c the request
 * @param generation just taken on; a client that hangs up cancels it
 * @param options of the app
 * @param toBody writes the finished generation
 * @returns 200 with the generation
 * @throws {ProblemError} what refused it before its first step
 */
export async function replyWithResult(
  c: Context<AppEnv>,
  generation: Generation,
  options: AppOptions,
  toBody: (generation: Generation) => unknown = (finished) => toState(finished, "data"),
): Promise<Response> {
  const { finished } = await waitForFirstStep(c, generation, options);
  return c.body(streamJson(finished, toBody), 200, {
    "Content-Type": "application/json",
    "Content-Location": generationPath(generation.id),
    ...noStore,
  });
}

/**
 * Answers with the generation's events as they come.
 *
 * @param c the request
 * @param generation just taken on
 * @param options of the app
 * @param lasting true when it goes on without the connection; else a client that hangs up cancels it
 * @returns 200 with the stream
 */
export async function replyWithEvents(
  c: Context<AppEnv>,
  generation: Generation,
  options: AppOptions,
  lasting: boolean,
): Promise<Response> {
  const { account, id } = generation;
  if (!lasting) bindToConnection(c, generation, options);
  c.header("Content-Location", generationPath(id));
  if (lasting) c.header("Preference-Applied", "respond-async");
  return await streamEvents(
    c,
    id,
    (signal) => requireJobs(options).generations.watch(account, id, { signal }),
    () => {
      if (lasting || c.get("idempotency") !== undefined) return undefined;
      cancel(generation, options);
      const { code, message } = leftAlone();
      const problem = createProblem(code, { detail: message, requestId: c.get("requestId") });
      return { event: "failed", data: JSON.stringify(problem), id: String(FINAL_EVENT) };
    },
  );
}

/**
 * Answers with where the generation is; or with the result, when that comes in time.
 *
 * @param c the request
 * @param generation just taken on; it goes on without the connection
 * @param options of the app
 * @param waitSeconds how long to wait for the result
 * @returns 202, or 200
 * @throws {ProblemError} what refused or ended it in time
 */
export async function replyLater(
  c: Context<AppEnv>,
  generation: Generation,
  options: AppOptions,
  waitSeconds: number,
): Promise<Response> {
  const { account, id } = generation;
  c.header("Preference-Applied", "respond-async");
  c.header("Cache-Control", "no-store");
  let now: Generation | undefined;
  if (waitSeconds > 0) {
    // too late, or a process that is about to end: the generation goes on
    const signal = AbortSignal.timeout(waitSeconds * 1000);
    now = await waitForEnd(generation, options, { signal }).catch(() => undefined);
  }
  // it was taken on: who is told that the store is away, and not where it is, would ask and pay again
  now ??= await requireJobs(options).generations.find(account, id).catch((error) => {
    if (isStoreUnavailable(error) || error instanceof ObjectStoreError) return undefined;
    throw error;
  }) ?? generation;
  if (now.status === "succeeded") return c.json(toState(now, "data"), 200);
  if (isFinal(now)) throw failureOf(now);
  return c.json(toState(now, "url"), 202, {
    "Location": generationPath(id),
    "Retry-After": String(POLL_SECONDS),
  });
}
