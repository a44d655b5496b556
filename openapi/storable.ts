/** Text that can be kept. */

import type { z } from "@hono/zod-openapi";

/**
 * Refuses U+0000, which PostgreSQL keeps in no text.
 *
 * @param text a schema of what is kept or looked for
 * @returns the same, and without it
 *
 * @example
 * ```ts
 * const note = storable(z.string().max(500)).optional();
 * ```
 */
export function storable(text: z.ZodString): z.ZodString {
  return text.refine((value) => !value.includes("\0"), {
    error: "must not hold the character U+0000",
    params: { code: "invalid_value" },
  });
}
