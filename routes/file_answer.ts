/** A file as an answer: strong ETag and one range (RFC 9110, sections 8.8.3, 13.1.5 and 14). */

import type { Context } from "hono";
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
  const part = parseRange(range, data.length);
  if (part === undefined) return c.body(data, 200);
  const { start, end } = part;
  if (start >= end) {
    throw new ProblemError("range_not_satisfiable", `The file has ${data.length} bytes.`, {
      details: { bytes: data.length },
      headers: { "Content-Range": `bytes */${data.length}` },
    });
  }
  c.header("Content-Range", `bytes ${start}-${end - 1}/${data.length}`);
  return c.body(data.slice(start, end), 206);
}

/**
 * Reads `Range`, as RFC 9110, 14.1.2, has it.
 *
 * @param range the header
 * @param length of the file, bytes
 * @returns the first byte and the one after the last, none where no byte is asked for that there is; undefined for what is
 *   malformed, in another unit or several ranges, all of which the header is ignored for
 */
function parseRange(range: string, length: number): { start: number; end: number } | undefined {
  const [, first = "", last = ""] = /^bytes=(\d*)-(\d*)$/.exec(range.trim()) ?? [];
  if (first === "") {
    return last === "" ? undefined : { start: Math.max(0, length - Number(last)), end: length };
  }
  if (last !== "" && Number(last) < Number(first)) return undefined;
  return { start: Number(first), end: Math.min(length, last === "" ? length : Number(last) + 1) };
}
