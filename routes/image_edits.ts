/** `POST /v1/images/edits`: OpenAI's image API, for clients that were written for it. The same job as any generation. */

import { type Context, Hono } from "hono";
import { FINAL_EVENT } from "../jobs/generation_record.ts";
import { type ImageEdit, ImageEditFormSchema } from "../openapi/image_edit.ts";
import { createImageEdit } from "../openapi/image_edit_operations.ts";
import { toOpenAiError } from "../openapi/openai_error.ts";
import { createProblem } from "../openapi/problem.ts";
import { type AppEnv, type AppOptions, requireJobs, requireRunning } from "./app_options.ts";
import { streamEvents } from "./event_stream.ts";
import { generationPath } from "./generation_answer.ts";
import { toGenerateInput } from "./generation_input.ts";
import { replyWithResult, waitForFirstStep } from "./generation_reply.ts";
import { toGenerationRequest } from "./generation_request.ts";
import { imageEditEvents, toImagesResponse } from "./image_edit_answer.ts";
import { imageEditFields, toGenerationOptions } from "./image_edit_input.ts";
import { admit } from "./middleware/admit.ts";
import { limitBodySize } from "./middleware/body_size.ts";
import { readIdempotencyKey } from "./middleware/idempotency_key.ts";
import { readFormBody } from "./request_body.ts";

/** Scheme and host as the client wrote them: a platform's proxy ends TLS and says so. */
function originOf(c: Context<AppEnv>): string {
  const url = new URL(c.req.url);
  if (c.req.header("X-Forwarded-Proto")?.split(",")[0]?.trim() === "https") url.protocol = "https:";
  return url.origin;
}

/**
 * The resource that speaks OpenAI's image API.
 *
 * @param options of the app
 * @returns a Hono app with one route
 */
export function imageEdits(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post(
    createImageEdit.path,
    admit(options, "generations:write"),
    limitBodySize(options.maxBodyBytes),
    readIdempotencyKey(),
    async (c) => {
      const { manifest } = requireRunning(options);
      const edit: ImageEdit = await readFormBody(c, ImageEditFormSchema, imageEditFields);
      const fields = toGenerationOptions(edit, manifest);
      const input = toGenerateInput(edit.image, fields, manifest, options.randomSeed);
      const { generations } = requireJobs(options);
      const request = toGenerationRequest(c, manifest, input, fields.preview_interval ?? 0);
      const generation = await generations.submit(request);
      if (edit.stream !== true) {
        const origin = originOf(c);
        const toBody = (finished: typeof generation) => toImagesResponse(finished, edit, manifest, origin);
        return await replyWithResult(c, generation, options, toBody);
      }
      // a photo that will not do is a status, as these clients have it, and not an event
      await waitForFirstStep(c, generation, options);
      const { account, id, createdAt } = generation;
      c.header("Content-Location", generationPath(id));
      return await streamEvents(
        c,
        id,
        (signal) => generations.watch(account, id, { signal }),
        () => {
          const detail = "The service is shutting down before the generation has ended.";
          const error = toOpenAiError(
            createProblem("shutting_down", { detail, requestId: c.get("requestId") }),
          );
          return { event: "error", data: JSON.stringify({ error }), id: String(FINAL_EVENT) };
        },
        imageEditEvents(edit, manifest, createdAt),
      );
    },
  );
  return app;
}
