/** `/v1/webhook_endpoints` and `/v1/webhook_messages` */

import { Hono, type MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import { lockAccount } from "../billing/ledger.ts";
import {
  listMessages,
  replayMessage,
  TooManyPendingError,
  type WebhookMessage,
} from "../jobs/webhooks/deliver.ts";
import {
  addEndpoint,
  type Endpoint,
  listEndpoints,
  type NewSecret,
  removeEndpoint,
  rotateSecret,
} from "../jobs/webhooks/endpoints.ts";
import { refusalOf } from "../jobs/webhooks/post.ts";
import { WebhookEndpointRequestSchema, WebhookMessageQuerySchema } from "../openapi/webhook.ts";
import type { WebhookEndpointBody, WebhookMessageBody } from "../openapi/webhook.ts";
import * as operations from "../openapi/webhook_operations.ts";
import { type AppEnv, type AppOptions, requireJobs } from "./app_options.ts";
import { fieldProblem, schemaProblem } from "./field_errors.ts";
import { accountOf } from "./generation_request.ts";
import { admit } from "./middleware/admit.ts";
import { limitBodySize, mostSmallBodyBytes } from "./middleware/body_size.ts";
import { wholeAccount } from "./middleware/whole_account.ts";
import { ProblemError } from "./problem_error.ts";
import { readJsonBody } from "./request_body.ts";

function toEndpoint({ id, url, created_at, disabled_at }: Endpoint): WebhookEndpointBody {
  return { id, url, created_at: created_at.toISOString(), enabled: disabled_at === null };
}

function toSecret({ endpoint, secret }: NewSecret): WebhookEndpointBody & { secret: string } {
  return { ...toEndpoint(endpoint), secret };
}

function toMessage(message: WebhookMessage): WebhookMessageBody {
  const { id, endpoint_id, type, state, attempts, last_result, created_at } = message;
  return { id, endpoint_id, type, state, attempts, last_result, created_at: created_at.toISOString() };
}

function require<Found>(found: Found | undefined | false): Found {
  if (found === undefined || found === false) {
    throw new ProblemError("webhook_not_found", "This account has nothing of this id.");
  }
  return found;
}

/**
 * The resources of webhooks.
 *
 * @param options of the app
 * @returns a Hono app with six routes
 */
export function webhooks(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const mayWrite = every(admit(options, "webhooks:write"), wholeAccount) as MiddlewareHandler<AppEnv>;
  const endpoints = operations.listWebhookEndpoints.path;

  app.get(endpoints, mayWrite, async (c) => {
    const { room } = requireJobs(options);
    c.header("Cache-Control", "no-store");
    return c.json({ data: (await listEndpoints(room.store.queries, accountOf(c))).map(toEndpoint) });
  });

  app.post(endpoints, mayWrite, limitBodySize(mostSmallBodyBytes), async (c) => {
    const { room, webhooksToPrivate } = requireJobs(options);
    const { url } = await readJsonBody(c, WebhookEndpointRequestSchema);
    const detail = refusalOf(url, webhooksToPrivate);
    if (detail !== undefined) throw fieldProblem([{ pointer: "/url", code: "webhook_url_refused", detail }]);
    const account = accountOf(c);
    const added = await room.store.transaction(async (transaction) => {
      await lockAccount(transaction, account, room.settings.initialCredit);
      return await addEndpoint(transaction, room.sealer, account, url);
    });
    c.header("Cache-Control", "no-store");
    return c.json(toSecret(added));
  });

  app.delete(operations.removeWebhookEndpoint.getRoutingPath(), mayWrite, async (c) => {
    const { room } = requireJobs(options);
    require(await removeEndpoint(room.store.queries, accountOf(c), c.req.param("id") ?? ""));
    return c.body(null, 204);
  });

  app.post(operations.rotateWebhookSecret.getRoutingPath(), mayWrite, async (c) => {
    const { room } = requireJobs(options);
    const renewed = await rotateSecret(
      room.store.queries,
      room.sealer,
      accountOf(c),
      c.req.param("id") ?? "",
    );
    c.header("Cache-Control", "no-store");
    return c.json(toSecret(require(renewed)));
  });

  app.get(operations.listWebhookMessages.path, mayWrite, async (c) => {
    const { room } = requireJobs(options);
    const query = c.req.query();
    const parsed = WebhookMessageQuerySchema.safeParse(query);
    if (!parsed.success) throw schemaProblem(parsed.error, query);
    c.header("Cache-Control", "no-store");
    return c.json({ data: (await listMessages(room, accountOf(c), parsed.data)).map(toMessage) });
  });

  app.post(operations.replayWebhookMessage.getRoutingPath(), mayWrite, async (c) => {
    const { room } = requireJobs(options);
    c.header("Cache-Control", "no-store");
    try {
      return c.json(toMessage(require(await replayMessage(room, accountOf(c), c.req.param("id") ?? ""))));
    } catch (error) {
      if (!(error instanceof TooManyPendingError)) throw error;
      throw new ProblemError("rate_limit_exceeded", error.message, { details: { retry_after_seconds: 60 } });
    }
  });
  return app;
}
