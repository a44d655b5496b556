/** `POST /development/token`: the token of the page on a developer's own machine. No part of the contract. */

import { Hono } from "hono";
import type { AppEnv, AppOptions } from "./app_options.ts";
import { ProblemError } from "./problem_error.ts";

/** Where it is. */
export const developmentTokenPath = "/development/token";

/** What the page's token allows: all the page does, and neither giving credits nor webhooks. */
export const pageScopes =
  "generations:write generations:read account:read faces:read models:read" satisfies string;

/** Headers that say the request was passed on by something in front. */
const proxyHeaders = ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"];

/**
 * Whether a request comes from this service's own page, opened on this machine by a loopback name.
 *
 * `Host` keeps out names that an attacker's DNS points at loopback, `Origin` and `Sec-Fetch-Site` (which no script can
 * set) other sites' pages, and the proxies' headers a service that was published behind one without being configured for it.
 */
function isFromLocalPage(request: Request): boolean {
  const { headers } = request;
  const host = headers.get("Host") ?? "";
  return /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/.test(host) &&
    headers.get("Origin") === `http://${host}` &&
    headers.get("Sec-Fetch-Site") === "same-origin" &&
    proxyHeaders.every((name) => !headers.has(name));
}

/**
 * The route.
 *
 * @param options its `signPageToken` is there only where the service listens on loopback and trusts its development key
 * @returns a Hono app; to everybody but the local page the address does not exist
 */
export function developmentToken({ signPageToken }: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post(developmentTokenPath, async (c) => {
    if (signPageToken === undefined || !isFromLocalPage(c.req.raw)) {
      throw new ProblemError("not_found", `There is no POST ${developmentTokenPath} for this request.`);
    }
    c.header("Cache-Control", "no-store");
    return c.json({ token: await signPageToken(pageScopes) });
  });
  return app;
}
