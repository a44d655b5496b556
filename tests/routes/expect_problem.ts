/** What every error answer must be. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type Problem, ProblemSchema } from "../../openapi/problem.ts";
import { problemCatalogue, type ProblemCode, problemType } from "../../openapi/problems.ts";

/**
 * Checks an answer to be the problem `code`: media type, members as RFC 9457 and the catalogue have them, no stack.
 *
 * @param response the answer; its body is read
 * @param code which problem
 * @returns the problem, for more particular checks
 */
export async function expectProblem(response: Response, code: ProblemCode): Promise<Problem> {
  const text = await response.text();
  equal(response.headers.get("Content-Type"), "application/problem+json", text.slice(0, 300));
  const problem = ProblemSchema.parse(JSON.parse(text));
  equal(problem.code, code, text);
  equal(problem.status, response.status);
  equal(response.status, problemCatalogue[code].status);
  equal(problem.type, problemType(code));
  equal(problem.request_id, response.headers.get("X-Request-Id"));
  equal(response.headers.get("Cache-Control"), "no-store");
  ok(problem.detail.length > 0 && problem.remedy.length > 0);
  ok(!/\bat .*\.ts|\.ts:\d|\/work\/|node_modules/.test(text), `a stack or path shows: ${text}`);
  if ([429, 503].includes(response.status)) match(response.headers.get("Retry-After") ?? "", /^\d+$/);
  return problem;
}

/**
 * Checks which fields a problem names.
 *
 * @param problem from {@linkcode expectProblem}
 * @param expected JSON pointers with their codes, in order
 */
export function expectFields(problem: Problem, expected: readonly (readonly [string, ProblemCode])[]): void {
  deepEqual((problem.errors ?? []).map(({ pointer, code }) => [pointer, code]), expected);
}
