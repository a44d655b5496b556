/** `GET /v1/account`, `GET /v1/usage`, `POST /v1/generations/price`, `POST /v1/accounts/{id}/credits` */

import { Hono } from "hono";
import { type Account, grant, lockAccount } from "../billing/ledger.ts";
import { priceOf } from "../billing/price.ts";
import { readUsage } from "../billing/usage.ts";
import { once } from "../jobs/idempotency.ts";
import {
  type AccountBody,
  CreditRequestSchema,
  PriceRequestSchema,
  UsageQuerySchema,
} from "../openapi/account.ts";
import * as operations from "../openapi/account_operations.ts";
import { type AppEnv, type AppOptions, requireJobs, requireModel, type ServedJobs } from "./app_options.ts";
import { fieldProblem, schemaProblem } from "./field_errors.ts";
import { checkModel, commonDefaults } from "./generation_input.ts";
import { accountOf } from "./generation_request.ts";
import { admit } from "./middleware/admit.ts";
import { limitBodySize, mostSmallBodyBytes } from "./middleware/body_size.ts";
import { readIdempotencyKey } from "./middleware/idempotency_key.ts";
import { wholeAccount } from "./middleware/whole_account.ts";
import { ProblemError } from "./problem_error.ts";
import { readJsonBody } from "./request_body.ts";

/** Days that usage is told of when nobody says which, and at most. */
const usageDays = { usual: 30, most: 366 };
const dayMilliseconds = 86_400_000;

function toBody({ id, available, reserved, spent }: Account, jobs: ServedJobs): AccountBody {
  return {
    id,
    available,
    reserved,
    spent,
    limits: {
      requests_per_minute: jobs.requestsPerMinute,
      generations_at_once: jobs.room.settings.mostAtOnce,
    },
  };
}

/** The account, opened when this is the first that is heard of it. */
function openAccount({ room }: ServedJobs, id: string): Promise<Account> {
  return room.store.transaction((transaction) => lockAccount(transaction, id, room.settings.initialCredit));
}

const dayOf = (time: number) => new Date(time).toISOString().slice(0, 10);

function readPeriod(
  query: Record<string, string>,
  now: number,
): { from: string; to: string; endUser: string | undefined } {
  const parsed = UsageQuerySchema.safeParse(query);
  if (!parsed.success) throw schemaProblem(parsed.error, query);
  const to = parsed.data.to ?? dayOf(now);
  const from = parsed.data.from ?? dayOf(Date.parse(to) - (usageDays.usual - 1) * dayMilliseconds);
  const days = (Date.parse(to) - Date.parse(from)) / dayMilliseconds + 1;
  if (days < 1 || days > usageDays.most) {
    const detail = `must be at most ${usageDays.most} days before /to, and not after it`;
    throw fieldProblem([{ pointer: "/from", code: "out_of_range", detail }]);
  }
  return { from, to, endUser: parsed.data.end_user };
}

/**
 * The resources of the account.
 *
 * @param options of the app
 * @returns a Hono app with four routes
 */
export function account(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const mayRead = admit(options, "account:read");

  app.get(operations.getAccount.path, mayRead, wholeAccount, async (c) => {
    const jobs = requireJobs(options);
    c.header("Cache-Control", "no-store");
    return c.json(toBody(await openAccount(jobs, accountOf(c)), jobs));
  });

  app.get(operations.getUsage.path, mayRead, async (c) => {
    const { room } = requireJobs(options);
    const { endUser: asked, ...period } = readPeriod(c.req.query(), Date.now());
    // an end user's token tells of that user alone
    const endUser = c.get("endUser") ?? asked;
    const { rows, total } = await readUsage(room.store.queries, accountOf(c), period, endUser);
    c.header("Cache-Control", "no-store");
    return c.json({ ...period, data: rows, total });
  });

  app.post(operations.priceGeneration.path, mayRead, limitBodySize(options.maxBodyBytes), async (c) => {
    const jobs = requireJobs(options);
    const { manifest } = requireModel(options);
    const body = await readJsonBody(c, PriceRequestSchema);
    checkModel(body.model, manifest);
    const price = priceOf(jobs.room.settings.prices, {
      images: body.num_images ?? commonDefaults.num_images,
      steps: body.num_inference_steps ?? manifest.defaults.num_inference_steps,
      pixels: manifest.image_size ** 2,
    });
    c.header("Cache-Control", "no-store");
    // how much there is, is nothing that an end user's token tells
    if (c.get("endUser") !== undefined) return c.json({ price });
    const { available } = await openAccount(jobs, accountOf(c));
    return c.json({ price, available });
  });

  app.post(
    operations.grantCredits.getRoutingPath(),
    admit(options, "accounts:write"),
    limitBodySize(mostSmallBodyBytes),
    readIdempotencyKey(),
    async (c) => {
      const jobs = requireJobs(options);
      const { amount, kind, note } = await readJsonBody(c, CreditRequestSchema);
      const id = c.req.param("id") ?? "";
      if (id === "" || id.length > 255) {
        throw new ProblemError("not_found", "No account has a name like this.");
      }
      if (kind === "top_up" && amount < 0) {
        const detail = "must not be negative for a top_up; an adjustment may be";
        throw fieldProblem([{ pointer: "/amount", code: "out_of_range", detail }]);
      }
      const actor = accountOf(c);
      const { answer, repeated } = await jobs.room.store.transaction((transaction) =>
        once(transaction, actor, c.get("idempotency"), async () => {
          const { initialCredit } = jobs.room.settings;
          const change = { account: id, initialCredit, amount, kind, actor, note: note ?? null };
          return { ...toBody(await grant(transaction, change), jobs) };
        })
      );
      // whoever adds up the log must not count a request twice
      const message = repeated ? "credits were given before" : "credits";
      options.log("info", message, { request_id: c.get("requestId"), account: id, actor, kind, amount });
      c.header("Cache-Control", "no-store");
      return c.json(answer);
    },
  );
  return app;
}
