/** Words of answers, of which there may be more one day. */

import { z } from "@hono/zod-openapi";

/**
 * One of a list of words that may grow. The service keeps to the list; the contract allows any string and tells the list
 * beside it, in `x-extensible-enum`: clients generated from an `enum` cannot read an answer that holds a word they do not
 * know.
 *
 * @param words those there are
 * @param description of the field
 * @returns the schema
 *
 * @example
 * ```ts
 * openEnum(["denoise", "decode"], "what is being done").parse("decode");
 * ```
 */
export function openEnum<const Words extends readonly [string, ...string[]]>(
  words: Words,
  description: string,
) {
  return z.enum(words).openapi({ type: "string", description, "x-extensible-enum": [...words] });
}
