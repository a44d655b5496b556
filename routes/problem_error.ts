/** Errors that end as a problem answer. */

import { InsufficientCreditError } from "../billing/ledger.ts";
import { CeilingExceededError, TooManyGenerationsError } from "../jobs/accept.ts";
import { GenerationGoneError } from "../jobs/durable_generations.ts";
import { IdempotencyKeyReusedError } from "../jobs/idempotency.ts";
import { TooManyAccountKeysError } from "../jobs/account_keys.ts";
import { TooManyEndpointsError } from "../jobs/webhooks/endpoints.ts";
import type { FieldError } from "../openapi/problem.ts";
import { problemCatalogue, type ProblemCode } from "../openapi/problems.ts";
import { PipelineError } from "../pipeline/protocol.ts";
import { challenge } from "./challenge.ts";
import { isStoreUnavailable, ObjectStoreError } from "../store/unavailable.ts";

/** What a problem may carry beside its code and detail. */
export interface ProblemExtras {
  readonly errors?: readonly FieldError[];
  readonly details?: Readonly<Record<string, number | string>>;
  /** headers of the answer, for example `Allow` */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Thrown by a handler or middleware to answer with a problem. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  /**
   * @param code which problem of the catalogue
   * @param detail one sentence about this request; quotes no token, photo or prompt
   * @param extras fields at fault, figures, headers
   */
  constructor(readonly code: ProblemCode, detail: string, readonly extras: ProblemExtras = {}) {
    super(detail);
  }
}

/** What the jobs room refuses, and what its database cannot do right now. */
function refusalOf(error: unknown): ProblemError | undefined {
  if (error instanceof InsufficientCreditError) {
    const { price, available } = error;
    return new ProblemError("insufficient_credits", error.message, { details: { price, available } });
  }
  if (error instanceof TooManyGenerationsError) {
    return new ProblemError("too_many_generations", error.message, { details: { limit: error.limit } });
  }
  if (error instanceof IdempotencyKeyReusedError) {
    return new ProblemError("idempotency_key_reused", error.message);
  }
  if (error instanceof GenerationGoneError) return new ProblemError("generation_not_found", error.message);
  if (error instanceof TooManyEndpointsError) {
    return new ProblemError("too_many_webhook_endpoints", error.message);
  }
  if (error instanceof TooManyAccountKeysError) {
    return new ProblemError("too_many_account_keys", error.message);
  }
  if (error instanceof CeilingExceededError) {
    const code = error.what === "images" ? "token_images_exceeded" : "token_price_exceeded";
    const { limit, asked } = error;
    return new ProblemError(code, error.message, {
      details: { limit, asked },
      headers: {
        "WWW-Authenticate": challenge({
          error: "insufficient_scope",
          error_description: problemCatalogue[code].title,
        }),
      },
    });
  }
  if (error instanceof ObjectStoreError) {
    return new ProblemError("image_store_unavailable", "The image store cannot be reached right now.");
  }
  if (isStoreUnavailable(error)) {
    return new ProblemError("store_unavailable", "The database cannot be reached right now.");
  }
  return undefined;
}

/**
 * Turns whatever was thrown into a problem.
 *
 * @param error what was thrown
 * @returns the error itself, a pipeline's refusal under its own code, or `internal_error` that says nothing of `error`
 */
export function toProblemError(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  const refusal = refusalOf(error);
  if (refusal !== undefined) return refusal;
  if (error instanceof PipelineError) {
    return new ProblemError(error.code, error.message, { details: error.details });
  }
  return new ProblemError("internal_error", "The service met a fault of its own.");
}
