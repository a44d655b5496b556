/** Errors that end as a problem answer. */

import type { FieldError } from "../openapi/problem.ts";
import { type ProblemCode } from "../openapi/problems.ts";
import { PipelineError } from "../pipeline/protocol.ts";

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

/**
 * Turns whatever was thrown into a problem.
 *
 * @param error what was thrown
 * @returns the error itself, a pipeline's refusal under its own code, or `internal_error` that says nothing of `error`
 */
export function toProblemError(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  if (error instanceof PipelineError) {
    return new ProblemError(error.code, error.message, { details: error.details });
  }
  return new ProblemError("internal_error", "The service met a fault of its own.");
}
