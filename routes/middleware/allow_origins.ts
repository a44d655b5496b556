/** Lets pages of other origins call the service from a browser (WHATWG Fetch, CORS). */

import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import type { AppEnv } from "../app_options.ts";

/** What a page may send beside what every page may. */
const requestHeaders = [
  "Authorization",
  "Content-Type",
  "Idempotency-Key",
  "If-None-Match",
  "If-Range",
  "Last-Event-ID",
  "Prefer",
  "Range",
  "X-Request-Id",
];

/** What a page may read beside what every page may. */
const answerHeaders = [
  "Accept-Ranges",
  "Allow",
  "Content-Length",
  "Content-Location",
  "Content-Range",
  "ETag",
  "Location",
  "Preference-Applied",
  "RateLimit",
  "RateLimit-Policy",
  "Retry-After",
  "WWW-Authenticate",
  "X-Request-Id",
];

/** Seconds a browser may keep the answer to a preflight; none keeps it for longer than two hours. */
const PREFLIGHT_SECONDS = 7200;

/**
 * Answers preflights and marks answers, problems among them. Credentials are never allowed: tokens go in a header that
 * the page sets, and no cookie means anything here.
 *
 * @param origins as browsers write them, or `*`
 * @returns middleware for before `authenticate`, since a preflight carries no token
 */
export function allowOrigins(origins: readonly string[]): MiddlewareHandler<AppEnv> {
  return cors({
    origin: origins.includes("*") ? "*" : [...origins],
    allowMethods: ["GET", "HEAD", "POST", "DELETE"],
    // OpenAI's clients tell of themselves in headers of their own
    allowHeaders: [
      ...requestHeaders,
      "OpenAI-Organization",
      "OpenAI-Project",
      ...["Arch", "Lang", "OS", "Package-Version", "Retry-Count", "Runtime", "Runtime-Version", "Timeout"]
        .map((name) => `X-Stainless-${name}`),
    ],
    exposeHeaders: answerHeaders,
    maxAge: PREFLIGHT_SECONDS,
  });
}
