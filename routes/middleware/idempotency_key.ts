/** Reads `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07) and says what request it stands for. */

import type { MiddlewareHandler } from "hono";
import { idempotencyKeyPattern } from "../../openapi/idempotency_key.ts";
import type { AppEnv } from "../app_options.ts";
import { boundaryOf, delimiters } from "../multipart.ts";
import { ProblemError } from "../problem_error.ts";

/** A form without its boundary, which is drawn anew whenever it is sent: `\r\n--boundary` becomes `\r\n--`. */
function withoutBoundary(body: Uint8Array<ArrayBuffer>, boundary: string): Uint8Array<ArrayBuffer> {
  const kept = new Uint8Array(body.length);
  let length = 0;
  const keep = (from: number, to: number) => {
    kept.set(body.subarray(from, to), length);
    length += to - from;
  };
  let from = 0;
  for (const at of delimiters(body, boundary)) {
    keep(from, at + 2);
    from = at + 2 + boundary.length;
  }
  keep(from, body.length);
  return kept.slice(0, length);
}

async function fingerprint(
  request: Request,
  body: ArrayBuffer,
  endUser: string | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  const type = request.headers.get("Content-Type") ?? "";
  const boundary = boundaryOf(type);
  const bytes = boundary === undefined
    ? new Uint8Array(body)
    : withoutBoundary(new Uint8Array(body), boundary);
  const head = new TextEncoder().encode(
    `${request.method} ${new URL(request.url).pathname}\n${type.split(";", 1)[0]?.trim().toLowerCase()}\n${
      endUser === undefined ? "" : `${JSON.stringify(endUser)}\n`
    }`,
  );
  const all = new Uint8Array(head.length + bytes.length);
  all.set(head);
  all.set(bytes, head.length);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

/**
 * Reads the key, if there is one; two requests are the same when method, path, media type and body are,
 * and the end user they are for.
 *
 * @returns middleware that sets `idempotency`, or throws `idempotency_key_invalid`
 */
export function readIdempotencyKey(): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const header = c.req.header("Idempotency-Key");
    if (header !== undefined) {
      const match = idempotencyKeyPattern.exec(header.trim());
      const key = match?.[1] ?? match?.[2];
      if (key === undefined) {
        throw new ProblemError(
          "idempotency_key_invalid",
          "The Idempotency-Key is empty, too long or not printable ASCII.",
        );
      }
      c.set("idempotency", {
        key,
        fingerprint: await fingerprint(c.req.raw, await c.req.arrayBuffer(), c.get("endUser")),
      });
    }
    await next();
  };
}
