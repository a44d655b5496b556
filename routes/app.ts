/** Joins the resources to one app. */

import { Hono } from "hono";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { operations } from "../openapi/operations.ts";
import { account } from "./account.ts";
import { accountKeys } from "./account_keys.ts";
import type { AppEnv, AppOptions } from "./app_options.ts";
import { developmentToken } from "./development_token.ts";
import { docs, docsPaths } from "./docs.ts";
import { faces } from "./faces.ts";
import { generationResults } from "./generation_results.ts";
import { generations } from "./generations.ts";
import { health } from "./health.ts";
import { imageEdits } from "./image_edits.ts";
import { metrics } from "./metrics.ts";
import { accessLog } from "./middleware/access_log.ts";
import { allowOrigins } from "./middleware/allow_origins.ts";
import { cancelHeadBody } from "./middleware/head_body.ts";
import { answerErrors, answerMethodNotAllowed, answerNotFound } from "./middleware/problems.ts";
import { models } from "./models.ts";
import { page, pagePaths } from "./page.ts";
import { webhooks } from "./webhooks.ts";

/** Every address with the methods it takes. */
function methodsByPath(): Map<string, string[]> {
  const table = new Map<string, string[]>();
  const routes = [
    ...operations.map((operation) => ({ path: operation.getRoutingPath(), method: operation.method })),
    ...[...Object.values(docsPaths), ...Object.values(pagePaths)].map((path) => ({ path, method: "get" })),
  ];
  for (const { path, method } of routes) {
    const methods = method === "get" ? ["GET", "HEAD"] : [method.toUpperCase()];
    table.set(path, [...table.get(path) ?? [], ...methods]);
  }
  // An address spelt out goes before one with a parameter in its place, which would answer for it.
  return new Map([...table].sort(([a], [b]) => Number(a.includes(":")) - Number(b.includes(":"))));
}

/**
 * Builds the HTTP side of the service.
 *
 * @param options the model, how tokens are judged, limits, the log
 * @returns a Hono app; pass its `fetch` to `Deno.serve`
 *
 * @example
 * ```ts
 * const app = createApp({ model: () => served, jobs: () => jobs, metrics, verifyToken, accountTokens,
 *   maxBodyBytes: 32_000_000, log });
 * Deno.serve({ port: 8080 }, app.fetch);
 * ```
 */
export function createApp(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(requestId({ limitLength: 128 }));
  app.use(accessLog(options.log));
  app.use(async (c, next) => {
    await next();
    const code = c.get("problemCode");
    if (code !== undefined) options.onProblem?.(code);
  });
  app.use(cancelHeadBody);
  app.use(async (c, next) => {
    // of a `Host` that is none; and no name of anything holds U+0000, which PostgreSQL refuses to look for
    const url = URL.parse(c.req.url);
    if (url === null || url.pathname.includes("%00")) return answerNotFound(c);
    await next();
  });
  app.use(secureHeaders({
    // the pages under / and /docs have policies of their own
    overwrite: false,
    contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    xFrameOptions: "DENY",
  }));
  if (options.corsOrigins !== undefined && options.corsOrigins.length > 0) {
    app.use("/v1/*", allowOrigins(options.corsOrigins));
    for (const path of [docsPaths.document, docsPaths.document30]) {
      app.use(path, allowOrigins(options.corsOrigins));
    }
  }
  app.route("/", account(options));
  app.route("/", accountKeys(options));
  app.route("/", webhooks(options));
  app.route("/", generations(options));
  app.route("/", generationResults(options));
  app.route("/", imageEdits(options));
  app.route("/", faces(options));
  app.route("/", models(options));
  app.route("/", health(options));
  app.route("/", metrics(options));
  app.route("/", docs());
  app.route("/", developmentToken(options));
  app.route("/", page());
  for (const [path, methods] of methodsByPath()) app.all(path, answerMethodNotAllowed(methods));
  app.notFound(answerNotFound);
  app.onError(answerErrors(options.log));
  return app;
}
