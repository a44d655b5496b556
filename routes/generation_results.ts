/** A generation after it was asked for: `GET`, `DELETE`, its events, its images, and `POST .../cancel`. */

import { type Context, Hono, type MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import { etag, RETAINED_304_HEADERS } from "hono/etag";
import { type Generation, isFinal } from "../jobs/generation.ts";
import * as operations from "../openapi/generation_operations.ts";
import { type AppEnv, type AppOptions, requireJobs } from "./app_options.ts";
import { answerFile } from "./file_answer.ts";
import { streamEvents } from "./event_stream.ts";
import { toState } from "./generation_answer.ts";
import { POLL_SECONDS } from "./generation_reply.ts";
import { negotiateFormat } from "./image_formats.ts";
import { accountOf } from "./generation_request.ts";
import { admit } from "./middleware/admit.ts";
import { ownGenerations } from "./middleware/own_generations.ts";
import { ProblemError } from "./problem_error.ts";

/** Others' generations are answered as those that never were: an id must not tell that it exists. */
function requireGeneration<Found>(found: Found | undefined): Found {
  if (found === undefined) {
    throw new ProblemError(
      "generation_not_found",
      "This account has no generation of this id, or no longer.",
    );
  }
  return found;
}

function answerState(c: Context<AppEnv>, generation: Generation): Response {
  c.header("Cache-Control", "no-store");
  if (!isFinal(generation)) c.header("Retry-After", String(POLL_SECONDS));
  return c.json(toState(generation, "url"));
}

/** What a 304 says: as RFC 9110, 15.4.5, has it, and what every answer says here. */
const kept304 = [
  ...RETAINED_304_HEADERS,
  "access-control-allow-origin",
  "access-control-expose-headers",
  "ratelimit",
  "ratelimit-policy",
  "x-request-id",
];

/** Number of the last event a client has seen; what is no number was never sent by us, and counts as none. */
function lastEventId(c: Context<AppEnv>): number {
  const text = c.req.header("Last-Event-ID") ?? "";
  return /^\d{1,9}$/.test(text) ? Number(text) : 0;
}

/**
 * The resource of one generation.
 *
 * @param options of the app
 * @returns a Hono app with five routes
 */
export function generationResults(options: AppOptions): Hono<AppEnv> {
  const kept = () => requireJobs(options).generations;
  const own = ownGenerations(options);
  const mayRead = every(admit(options, "generations:read"), own) as MiddlewareHandler<AppEnv>;
  const mayWrite = every(admit(options, "generations:write"), own) as MiddlewareHandler<AppEnv>;
  const app = new Hono<AppEnv>();

  app.get(operations.getGeneration.getRoutingPath(), mayRead, async (c) => {
    return answerState(c, requireGeneration(await kept().find(accountOf(c), c.req.param("id"))));
  });

  app.delete(operations.deleteGeneration.getRoutingPath(), mayWrite, async (c) => {
    const removed = await kept().remove(accountOf(c), c.req.param("id"));
    requireGeneration(removed || undefined);
    return c.body(null, 204);
  });

  app.get(operations.watchGeneration.getRoutingPath(), mayRead, async (c) => {
    const [account, id, after] = [accountOf(c), c.req.param("id"), lastEventId(c)];
    const generation = requireGeneration(await kept().find(account, id));
    // WHATWG HTML, 9.2.3: this, and nothing else, keeps an EventSource from coming again
    if (isFinal(generation) && after > 0 && after >= generation.lastEvent) return c.body(null, 204);
    return await streamEvents(c, id, (signal) => kept().watch(account, id, { after, signal }));
  });

  app.post(operations.cancelGeneration.getRoutingPath(), mayWrite, async (c) => {
    const generation = requireGeneration(await kept().cancel(accountOf(c), c.req.param("id")));
    if (generation.status !== "canceled") {
      throw new ProblemError("generation_finished", `The generation has ${generation.status} already.`);
    }
    return answerState(c, generation);
  });

  app.get(
    operations.getGenerationImage.getRoutingPath(),
    mayRead,
    etag({ retainedHeaders: kept304 }),
    async (c) => {
      const generation = requireGeneration(await kept().find(accountOf(c), c.req.param("id")));
      const wanted = c.req.param("index");
      const image = generation.images.find(({ index }) => String(index) === wanted);
      if (image === undefined) {
        throw new ProblemError("image_not_found", "The generation has no image of this index, or not yet.");
      }
      const { contentType, data } = await negotiateFormat(c, image);
      // kept by whoever asked for it, but never shown without asking whether it is still there
      c.header("Cache-Control", "private, no-cache");
      c.header("Vary", "Accept", { append: true });
      return await answerFile(c, contentType, data);
    },
  );

  return app;
}
