/** The two ways a generation is answered: JSON when it is finished, or server-sent events while it runs. */

import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import type { Generation } from "../openapi/generation.ts";
import { createProblem } from "../openapi/problem.ts";
import type { AppEnv, AppOptions } from "./app_options.ts";
import { type GenerationJob, runJob } from "./generation_job.ts";
import { toProblemError } from "./problem_error.ts";

/** JSON once it is there. */
function streamJson(value: Promise<Generation>): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async start(controller) {
      try {
        controller.enqueue(new TextEncoder().encode(JSON.stringify(await value)));
        controller.close();
      } catch {
        // Deno prints this error; the real one is logged where it was thrown, without its message
        controller.error(new Error("a generation failed after its answer had begun"));
      }
    },
  });
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
 * @param job what to run
 * @param options of the app
 * @returns 200 with the generation
 * @throws whatever refused the job before its first step
 */
export async function replyWithJson(
  c: Context<AppEnv>,
  job: GenerationJob,
  options: AppOptions,
): Promise<Response> {
  const accepted = Promise.withResolvers<void>();
  const finished = runJob(job, c.get("requestId"), options, {
    signal: c.req.raw.signal,
    onProgress: ({ stage }) => {
      if (stage === "denoise") accepted.resolve();
    },
  });
  await Promise.race([accepted.promise, finished]);
  return c.body(streamJson(finished), 200, {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
  });
}

/**
 * Answers with server-sent events: `progress`, then `succeeded` or `failed`.
 *
 * @param c the request
 * @param job what to run
 * @param options of the app
 * @returns 200 with the stream; a client that hangs up cancels the job
 */
export function replyWithEvents(c: Context<AppEnv>, job: GenerationJob, options: AppOptions): Response {
  const requestId = c.get("requestId");
  // proxies that gather answers before they pass them on would turn progress into a long silence
  c.header("X-Accel-Buffering", "no");
  const response = streamSSE(c, async (stream) => {
    const send = (event: string, data: unknown) => stream.writeSSE({ event, data: JSON.stringify(data) });
    try {
      const generation = await runJob(job, requestId, options, {
        signal: c.req.raw.signal,
        onProgress: (progress) => void send("progress", progress),
      });
      await send("succeeded", generation);
    } catch (error) {
      const { code, message, extras } = toProblemError(error);
      await send("failed", createProblem(code, { detail: message, requestId, ...extras }));
    }
  });
  response.headers.set("Cache-Control", "no-store");
  return response;
}
