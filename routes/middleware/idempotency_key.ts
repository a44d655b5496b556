/** Reads `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07) and says what request it stands for. */

import type { MiddlewareHandler } from "hono";
import { idempotencyKeyPattern } from "../../openapi/idempotency_key.ts";
import type { AppEnv } from "../app_options.ts";
import { ProblemError } from "../problem_error.ts";

/** RFC 2046, 5.1.1: drawn anew for every form that is sent, so it is no part of what is asked. */
const boundaryPattern = /;\s*boundary=(?:"([^"]+)"|([^;\s]+))/i;

/** A form without its boundary: `\r\n--boundary` becomes `\r\n--`. */
function withoutBoundary(body: Uint8Array<ArrayBuffer>, boundary: string): Uint8Array<ArrayBuffer> {
  const mark = new TextEncoder().encode(`--${boundary}`);
  const kept = new Uint8Array(body.length);
  let length = 0;
  for (let at = 0; at < body.length;) {
    if (body[at] === 0x2d && mark.every((byte, offset) => body[at + offset] === byte)) {
      kept.set([0x2d, 0x2d], length);
      length += 2;
      at += mark.length;
    } else {
      kept[length++] = body[at++]!;
    }
  }
  return kept.slice(0, length);
}

async function fingerprint(
  request: Request,
  body: ArrayBuffer,
  endUser: string | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  const type = request.headers.get("Content-Type") ?? "";
  const boundary = boundaryPattern.exec(type);
  const name = boundary?.[1] ?? boundary?.[2];
  const bytes = name === undefined ? new Uint8Array(body) : withoutBoundary(new Uint8Array(body), name);
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
