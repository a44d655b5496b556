/** Calls to the service: the token, problems (RFC 9457), and what is asked of it. */

import * as tab from "./tab_storage.js";

const TOKEN = "idadapter.token";

/** A request was refused, or never got through. */
export class ProblemError extends Error {
  /**
   * @param {{code: string, status: number, title: string, detail: string, remedy: string, request_id?: string}} problem
   * @param {number} [retryAfterSeconds] how long the service asks to wait
   */
  constructor(problem, retryAfterSeconds) {
    super(problem.detail);
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** True when the request did not reach the service or its answer was cut off. */
export function isConnectionLoss(error) {
  return error instanceof TypeError || error?.name === "AbortError" || error?.name === "NetworkError";
}

/** The token of this tab, if there is one. */
export function storedToken() {
  return tab.getItem(TOKEN);
}

/** Keeps a token until the tab is closed; an empty one forgets it. */
export function keepToken(token) {
  if (token) tab.setItem(TOKEN, token);
  else tab.removeItem(TOKEN);
}

/** A token of this machine's development key; a service that has an identity provider, or is not local, gives none. */
export async function fetchDevelopmentToken() {
  const response = await fetch("/development/token", { method: "POST" });
  if (!response.ok) return undefined;
  const { token } = await response.json();
  keepToken(token);
  return token;
}

async function toProblem(response) {
  // a proxy may send a date instead of seconds: then the page's own pauses do
  const retryAfter = Number(response.headers.get("Retry-After")) || undefined;
  try {
    const problem = await response.json();
    // a gateway's errors have codes too
    if (typeof problem.code === "string" && typeof problem.remedy === "string") {
      return new ProblemError(problem, retryAfter);
    }
  } catch {
    // what stands in front of the service answered with something else
  }
  return new ProblemError({
    code: "unexpected_answer",
    status: response.status,
    title: `The service answered ${response.status}`,
    detail: "The answer did not come from the service itself.",
    remedy: "Try again in a moment.",
  }, retryAfter);
}

function send(path, init) {
  const headers = new Headers(init.headers);
  const token = storedToken();
  if (token) headers.set("Authorization", `Bearer ${token}`);
  return fetch(path, { ...init, headers, cache: "no-store" });
}

/**
 * `fetch` with this tab's token; an expired development token is renewed once.
 *
 * @param {string} path
 * @param {RequestInit} [init] its body must be sendable twice
 * @returns {Promise<Response>} a success
 * @throws {ProblemError} what the service refused
 * @throws {TypeError} when it cannot be reached
 */
export async function call(path, init = {}) {
  let response = await send(path, init);
  if (response.status === 401 && await fetchDevelopmentToken().catch(() => undefined)) {
    response = await send(path, init);
  }
  if (!response.ok) throw await toProblem(response);
  return response;
}

/** Posts a JSON body, gives the JSON answer. */
export async function postJson(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(body), signal })).json();
}
