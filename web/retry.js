/** Asking again what was not answered: when that can help, and how long to wait before. */

import { isConnectionLoss, ProblemError } from "./api.js";

/** The pause before asking again doubles from the first to the longest. */
const FIRST_PAUSE_MILLISECONDS = 500;
const LONGEST_PAUSE_MILLISECONDS = 8_000;

/** `Retry-After` is believed up to this: something in front of the service may say hours. */
const LONGEST_RETRY_AFTER_SECONDS = 300;

/** How long a browser that says it is offline is believed: a service on the same machine answers without a network. */
const OFFLINE_MILLISECONDS = 5_000;

/** How long an answer may take that nothing is told of meanwhile; a photo goes up in this time too. */
const ANSWER_MILLISECONDS = 60_000;

/** How often is asked what the service answers with a fault of its own. */
const TRIES_OF_FAULTS = 3;

/** What the service answers before it took anything on: it is starting, stopping or busy. */
const PASSING = ["not_ready", "shutting_down", "store_unavailable", "keys_unavailable"];

/**
 * Whether asking again can help. What is answered in the service's place may hide that the request arrived. Of what was
 * taken on, or may have been, only the answer is late: then too many requests pass as well.
 *
 * @param {unknown} error
 * @param {boolean} accepted whether what is asked about was taken on, or may have been; true for what only reads
 */
export function isPassing(error, accepted) {
  if (isConnectionLoss(error)) return true;
  if (!(error instanceof ProblemError)) return false;
  const { code, status } = error.problem;
  return PASSING.includes(code) || (code === "unexpected_answer" && status >= 500) ||
    (accepted && (status === 429 || code === "image_store_unavailable"));
}

/** Waits; shorter when the signal is aborted or the browser is back online. */
function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      globalThis.removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
    globalThis.addEventListener("online", end);
  });
}

/**
 * Resolves after the answer's `Retry-After` or a growing pause, and offline after some seconds more.
 *
 * @param {number} attempt counted from 0
 * @param {unknown} error why there was no answer
 * @param {AbortSignal} signal ends the pause
 */
export async function pauseBeforeRetry(attempt, error, signal) {
  const retryAfter = Math.min(error?.retryAfterSeconds ?? 0, LONGEST_RETRY_AFTER_SECONDS);
  const growing = Math.min(FIRST_PAUSE_MILLISECONDS * 2 ** attempt, LONGEST_PAUSE_MILLISECONDS);
  await wait(Math.max(growing, retryAfter * 1000), signal);
  if (!navigator.onLine && !signal.aborted) await wait(OFFLINE_MILLISECONDS, signal);
}

/**
 * Asks as often as it takes, where asking twice does no harm.
 *
 * @template Answer
 * @param {(signal: AbortSignal) => Promise<Answer>} ask sends the request and reads its answer, until the signal is aborted
 * @param {(lost: boolean, error?: unknown) => void} onConnection told when there was no answer, and when there is one again
 * @param {AbortSignal} signal ends the asking
 * @returns {Promise<Answer>}
 * @throws {ProblemError} when asking again does not help
 * @throws {DOMException} `AbortError` when the signal is aborted, even if an answer came
 */
export async function askUntilAnswered(ask, onConnection, signal) {
  let faults = 0;
  for (let attempt = 0;; attempt++) {
    let answer, failure;
    const inTime = new AbortController();
    const cut = () => inTime.abort();
    const timer = setTimeout(cut, ANSWER_MILLISECONDS);
    signal.addEventListener("abort", cut);
    try {
      answer = await ask(inTime.signal);
    } catch (error) {
      const again = isPassing(error, true) || error?.problem?.status >= 500 && ++faults < TRIES_OF_FAULTS;
      if (signal.aborted || !again) throw error;
      failure = error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", cut);
    }
    signal.throwIfAborted();
    if (failure === undefined) {
      if (attempt > 0) onConnection(false);
      return answer;
    }
    onConnection(true, failure);
    await pauseBeforeRetry(attempt, failure, signal);
    signal.throwIfAborted();
  }
}
