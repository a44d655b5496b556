/** `GET /`: the page for people, a client of the API like any other, and the files it is made of. */

import { type Context, Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import type { AppEnv } from "./app_options.ts";
import { type PageFile, readPage } from "./page_files.ts";
import { ProblemError } from "./problem_error.ts";

/** The addresses this file serves. */
export const pagePaths = {
  page: "/",
  manifest: "/manifest.webmanifest",
  /** at the root, because it may only look after what lies below it */
  serviceWorker: "/service_worker.js",
  file: "/web/:version/:name",
} as const;

/** Nothing inline, nothing from another host; pictures also from memory, where the page makes and unpacks them. */
const policy = secureHeaders({
  contentSecurityPolicy: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'", "blob:", "data:"],
    mediaSrc: ["blob:"],
    connectSrc: ["'self'"],
    manifestSrc: ["'self'"],
    workerSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
  permissionsPolicy: { camera: ["self"], microphone: [], geolocation: [] },
});

/** For ever: the address changes with the content. */
const immutable = "public, max-age=31536000, immutable";
/** Kept, but asked about each time. */
const revalidated = "no-cache";

function answer(c: Context<AppEnv>, file: PageFile, cacheControl: string): Response {
  const compressed = file.gzip !== undefined && /\bgzip\b(?!;\s*q=0(\.0*)?\s*(,|$))/.test(
    c.req.header("Accept-Encoding") ?? "",
  );
  // the two encodings are different bytes, so a strong tag has to tell them apart
  const etag = `"${file.tag}${compressed ? "-gzip" : ""}"`;
  const headers = { "ETag": etag, "Cache-Control": cacheControl, "Vary": "Accept-Encoding" };
  const known = (c.req.header("If-None-Match") ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  if (known.includes(etag)) return c.body(null, 304, headers);
  return c.body(compressed ? file.gzip! : file.bytes, 200, {
    ...headers,
    "Content-Type": file.type,
    ...(compressed ? { "Content-Encoding": "gzip" } : {}),
  });
}

/**
 * The page.
 *
 * @returns a Hono app with four routes
 */
export function page(): Hono<AppEnv> {
  const { version, files } = readPage();
  const app = new Hono<AppEnv>();
  app.get(pagePaths.page, policy, (c) => answer(c, files.get("index.html")!, revalidated));
  app.get(pagePaths.manifest, (c) => answer(c, files.get("manifest.webmanifest")!, revalidated));
  app.get(pagePaths.serviceWorker, policy, (c) => answer(c, files.get("service_worker.js")!, revalidated));
  app.get(pagePaths.file, (c) => {
    const file = files.get(c.req.param("name"));
    if (file === undefined || c.req.param("version") !== version) {
      throw new ProblemError("not_found", "The page has no such file, or has another version by now.");
    }
    return answer(c, file, immutable);
  });
  return app;
}
