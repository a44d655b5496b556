/** Turns everything that is not a success into RFC 9457 `application/problem+json`. */

import type { Context, ErrorHandler, Handler, NotFoundHandler } from "hono";
import { asOpenAiProblem, openAiStatus, speaksOpenAi } from "../../openapi/openai_error.ts";
import { createProblem } from "../../openapi/problem.ts";
import { problemCatalogue, type ProblemDefinition } from "../../openapi/problems.ts";
import type { AppEnv } from "../app_options.ts";
import { errorFields, type Logger } from "../logger.ts";
import { ProblemError, toProblemError } from "../problem_error.ts";

function answerProblem(c: Context<AppEnv>, error: ProblemError): Response {
  const { code, extras: { headers = {}, ...extras } } = error;
  const definition: ProblemDefinition = problemCatalogue[code];
  c.set("problemCode", code);
  const retryAfter = extras.details?.["retry_after_seconds"] ?? definition.retryAfterSeconds;
  const problem = createProblem(code, { detail: error.message, requestId: c.get("requestId"), ...extras });
  const forOpenAi = speaksOpenAi(c.req.path);
  const status = forOpenAi ? openAiStatus(definition.status) : definition.status;
  const body = forOpenAi ? asOpenAiProblem(problem) : problem;
  return c.body(JSON.stringify(body), status, {
    "Content-Type": "application/problem+json",
    "Cache-Control": "no-store",
    ...(retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) }),
    ...headers,
  });
}

/** How much the account has is nothing that an end user's token tells. */
function forEndUser(c: Context<AppEnv>, problem: ProblemError): ProblemError {
  if (c.get("endUser") === undefined || problem.code !== "insufficient_credits") return problem;
  const { available: _available, ...details } = problem.extras.details ?? {};
  return new ProblemError(problem.code, "The account has not enough credits for this.", { details });
}

/**
 * The app's error handler.
 *
 * @param log gets a line for every fault of our own, without the error's message
 * @returns a handler that answers with the problem of whatever was thrown
 */
export function answerErrors(log: Logger): ErrorHandler<AppEnv> {
  return (error, c) => {
    const problem = forEndUser(c, toProblemError(error));
    if (problem.code === "internal_error") {
      log("error", "unexpected error", { request_id: c.get("requestId"), ...errorFields(error) });
    }
    return answerProblem(c, problem);
  };
}

/** Answers 404 for an address that does not exist. */
export const answerNotFound: NotFoundHandler<AppEnv> = (c) =>
  answerProblem(c, new ProblemError("not_found", "This address does not exist."));

/**
 * Answers 405 for an address that exists under other methods (RFC 9110, 15.5.6).
 *
 * @param methods what the address takes, in capitals
 * @returns a handler to register for all methods, after the real ones
 */
export function answerMethodNotAllowed(methods: readonly string[]): Handler<AppEnv> {
  const allow = methods.join(", ");
  return (c) =>
    answerProblem(
      c,
      new ProblemError("method_not_allowed", `This address takes ${allow}.`, { headers: { Allow: allow } }),
    );
}
