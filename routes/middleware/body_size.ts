/** Refuses bodies that are too large before they are in memory. */

import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { AppEnv } from "../app_options.ts";
import { ProblemError } from "../problem_error.ts";

/** The most bytes of a body without photos: JSON may write each of an address's 2000 characters in twelve. */
export const mostSmallBodyBytes = 65_536;

/**
 * Bounds the body, by its Content-Length or, when it comes in chunks, by what has arrived.
 *
 * @param maxBytes the most bytes taken
 * @returns middleware that throws `body_too_large`
 */
export function limitBodySize(maxBytes: number): MiddlewareHandler<AppEnv> {
  return bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new ProblemError("body_too_large", `The body has more than ${maxBytes} bytes.`, {
        details: { limit: maxBytes },
      });
    },
  });
}
