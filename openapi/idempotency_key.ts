/** The `Idempotency-Key` header, as the contract has it. */

import { z } from "@hono/zod-openapi";

/** A structured field string (RFC 8941), or, as most clients send it, its content without quotes; 1 to 255 characters. */
export const idempotencyKeyPattern =
  /^(?:"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x7e]{1,255}))$/;

/** The header's schema. */
export const IdempotencyKeySchema = z.string().max(257).regex(idempotencyKeyPattern);
