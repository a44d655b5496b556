/** A problem in the words of OpenAI's API, for clients that were written for it. */

import type { Problem } from "./problem.ts";

/** Addresses that OpenAI's clients call: their problems carry an `error` member, and a status those clients know. */
const openAiPaths = /^\/v1\/(?:images|models)(?:\/|$)/;

/**
 * Whether an address speaks OpenAI's API.
 *
 * @param path of the request, without its query
 */
export function speaksOpenAi(path: string): boolean {
  return openAiPaths.test(path);
}

/**
 * The status an OpenAI client is answered with: it has one class for all that is wrong with a request, the one of 400.
 *
 * @param status of the problem as the catalogue has it
 * @returns 400 for 415 and 422, else the same
 */
export function openAiStatus<Status extends number>(status: Status): Exclude<Status, 415 | 422> | 400 {
  return status === 415 || status === 422 ? 400 : status as Exclude<Status, 415 | 422>;
}

/** OpenAI's `type` of an error, by status; what is not here is `server_error` from 500 on, else `invalid_request_error`. */
const typesByStatus: Readonly<Record<number, string>> = {
  401: "authentication_error",
  402: "insufficient_quota",
  403: "permission_error",
  429: "rate_limit_error",
};

/**
 * The `error` member.
 *
 * @param problem the same as RFC 9457 has it
 * @returns message (what is wrong and what to do), type, our own code, and the field at fault or null
 *
 * @example
 * ```ts
 * toOpenAiError(createProblem("image_missing", { detail, requestId, errors })).param; // "image"
 * ```
 */
export function toOpenAiError(problem: Problem): NonNullable<Problem["error"]> {
  const { code, status, detail, remedy, errors: [first] = [] } = problem;
  return {
    message: `${detail.replace(/\.?$/, ".")} ${remedy}`,
    type: typesByStatus[status] ?? (status >= 500 ? "server_error" : "invalid_request_error"),
    code,
    param: first === undefined || first.pointer === "" ? null : first.pointer.split("/")[1] ?? null,
  };
}

/**
 * A problem as an OpenAI client is answered with it.
 *
 * @param problem as RFC 9457 has it
 * @returns the same with the status that is sent, and the `error` member
 *
 * @example
 * ```ts
 * asOpenAiProblem(createProblem("image_missing", { detail, requestId })).status; // 400
 * ```
 */
export function asOpenAiProblem(problem: Problem): Problem {
  return { ...problem, status: openAiStatus(problem.status), error: toOpenAiError(problem) };
}
