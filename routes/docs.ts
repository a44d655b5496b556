/** `GET /openapi.json`, `GET /openapi-3.0.json` and `GET /docs`: the contract for programs and for people, with no other host involved. */

import { Scalar } from "@scalar/hono-api-reference";
import { Hono } from "hono";
import { NONCE, secureHeaders, type SecureHeadersVariables } from "hono/secure-headers";
import { formatDocument } from "../openapi/document.ts";
import { formatDocument30 } from "../openapi/document_3_0.ts";
import { securityScheme } from "../openapi/scopes.ts";
import type { AppEnv } from "./app_options.ts";
import { ProblemError } from "./problem_error.ts";

/** The addresses this file serves. */
export const docsPaths = {
  document: "/openapi.json",
  document30: "/openapi-3.0.json",
  page: "/docs",
  script: "/docs/scalar.js",
} as const;

const scalarScript = new URL(
  "../node_modules/@scalar/api-reference/dist/browser/standalone.js",
  import.meta.url,
);

type DocsEnv = { Variables: AppEnv["Variables"] & SecureHeadersVariables };

/** Everything from this host, scripts only by nonce; Vue sets styles at run time, which no nonce can cover. */
const pagePolicy = secureHeaders({
  contentSecurityPolicy: {
    defaultSrc: ["'none'"],
    scriptSrc: [NONCE],
    styleSrc: ["'self'", "'unsafe-inline'"],
    imgSrc: ["'self'", "data:"],
    fontSrc: ["'self'", "data:"],
    connectSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
});

/**
 * The contract and its page.
 *
 * @returns a Hono app with four routes
 */
export function docs(): Hono<DocsEnv> {
  const document = formatDocument();
  const app = new Hono<DocsEnv>();
  app.get(docsPaths.document, (c) => c.body(document, 200, { "Content-Type": "application/json" }));
  // few ask for it: it is converted for the first who does
  let document30: string | undefined;
  app.get(
    docsPaths.document30,
    (c) => c.body(document30 ??= formatDocument30(), 200, { "Content-Type": "application/json" }),
  );
  app.get(
    docsPaths.page,
    pagePolicy,
    Scalar<DocsEnv>((c) => ({
      url: docsPaths.document,
      cdn: docsPaths.script,
      nonce: c.get("secureHeadersNonce") ?? "",
      pageTitle: "IDAdapter API",
      withDefaultFonts: false,
      telemetry: false,
      agent: { disabled: true },
      mcp: { disabled: true },
      hideClientButton: true,
      showDeveloperTools: "never",
      authentication: { preferredSecurityScheme: securityScheme },
    })),
  );
  app.get(docsPaths.script, async (c) => {
    let file: Deno.FsFile;
    try {
      file = await Deno.open(scalarScript);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new ProblemError("not_found", "Scalar is not installed: run `deno install` once.");
    }
    return c.body(file.readable, 200, {
      "Content-Type": "text/javascript; charset=utf-8",
      "Cache-Control": "public, max-age=3600",
    });
  });
  return app;
}
