/** A file as an answer: strong ETag and one range (RFC 9110, sections 8.8.3, 13.1.5 and 14). */

import type { Context } from "hono";
// @ts-types="@types/range-parser"
import parseRange from "range-parser";
import type { AppEnv } from "./app_options.ts";
import { ProblemError } from "./problem_error.ts";

/**
 * Answers with a file, or with the part that is asked for. `If-None-Match` is left to Hono's `etag`.
 *
 * @param c the request
 * @param contentType of the file
 * @param data the whole file
 * @returns 200, or 206 for one range that can be satisfied; malformed ranges, several, and those of another file
 * (`If-Range`) get all of it
 * @throws {ProblemError} `range_not_satisfiable`
 */
export async function answerFile(
  c: Context<AppEnv>,
  contentType: string,
  data: Uint8Array<ArrayBuffer>,
): Promise<Response> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data)).subarray(0, 16);
  const tag = `"${digest.toHex()}"`;
  c.header("ETag", tag);
  c.header("Accept-Ranges", "bytes");
  c.header("Content-Type", contentType);
  const range = c.req.header("Range");
  const condition = c.req.header("If-Range");
  const sameFile = condition === undefined || condition === tag;
  if (range === undefined || c.req.method !== "GET" || !sameFile) return c.body(data, 200);
  const ranges = parseRange(data.length, range);
  if (ranges === -1) {
    throw new ProblemError("range_not_satisfiable", `The file has ${data.length} bytes.`, {
      details: { bytes: data.length },
      headers: { "Content-Range": `bytes */${data.length}` },
    });
  }
  const [first] = typeof ranges === "number" || ranges.type !== "bytes" || ranges.length > 1 ? [] : ranges;
  if (first === undefined) return c.body(data, 200);
  c.header("Content-Range", `bytes ${first.start}-${first.end}/${data.length}`);
  return c.body(data.slice(first.start, first.end + 1), 206);
}
