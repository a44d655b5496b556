/** Why the demo ended without portraits, and what to do about it. */

import type { Problem } from "../openapi/problem.ts";

/** Told to the person at the terminal; the demo exits with 1. */
export class DemoFailure extends Error {
  override readonly name = "DemoFailure";

  /**
   * @param code stable, the API's own where the API refused
   * @param message what is wrong
   * @param remedy what to do
   * @param facts further lines: fields at fault, the request's name, the service's last words
   */
  constructor(
    readonly code: string,
    message: string,
    readonly remedy: string,
    readonly facts: readonly string[] = [],
  ) {
    super(message);
  }
}

/**
 * A problem of the API as a failure of the demo.
 *
 * @param problem the answer's body, or the data of a `failed` event
 * @returns with the fields at fault when there are several, and the request to look for in the log
 */
export function failureOf({ code, detail, remedy, errors = [], request_id }: Problem): DemoFailure {
  const fields = errors.length > 1 ? errors.map((error) => `${error.pointer} ${error.detail}`) : [];
  return new DemoFailure(code, detail, remedy, [...fields, `request ${request_id}`]);
}
