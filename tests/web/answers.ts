/** Answers in the service's place. */

import type { HTTPRequest, Page, ResponseForRequest } from "puppeteer-core";
import { problemCatalogue, type ProblemCode } from "../../openapi/problems.ts";

/** A problem, a proxy's page, or a connection that breaks. */
export type Answer = Partial<ResponseForRequest> | "lost";

/** A request's path. */
export function pathOf(request: HTTPRequest): string {
  return new URL(request.url()).pathname;
}

/** Requests to a path that matches get these answers first, each once, and then the service's. */
export async function answerInstead(
  { page }: { readonly page: Page },
  ...rules: [path: RegExp, answers: Answer[]][]
): Promise<void> {
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    const answer = rules.find(([path]) => path.test(pathOf(request)))?.[1].shift();
    if (answer === undefined) void request.continue();
    else if (answer === "lost") void request.abort("connectionreset");
    else void request.respond(answer);
  });
}

/**
 * A problem as the service answers it.
 *
 * @param code of the problem
 * @param retryAfter seconds, for the header
 */
export function problem(code: ProblemCode, retryAfter?: number): Partial<ResponseForRequest> {
  const { status, title, remedy } = problemCatalogue[code];
  return {
    status,
    body: JSON.stringify({ code, status, title, detail: "", remedy }),
    ...(retryAfter === undefined ? {} : { headers: { "Retry-After": String(retryAfter) } }),
  };
}

/** What a proxy says while the service is away. */
export const badGateway: Partial<ResponseForRequest> = { status: 502, body: "<h1>Bad gateway</h1>" };
