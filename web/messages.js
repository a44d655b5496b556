/** What the page says: problems, findings, and what only a screen reader is told. */

import { isConnectionLoss, ProblemError } from "./api.js";
import { askForToken } from "./token_dialog.js";

const $ = (id) => document.getElementById(id);

/**
 * Shows a message in the place of problems.
 *
 * @param {string} title
 * @param {string} text
 * @param {string} [small] for whoever is told of the problem
 * @param {() => void} [onLeave] lets the portraits go that the page would ask for once more
 */
export function showMessage(title, text, small, onLeave) {
  const box = $("problem");
  const lines = [["strong", title], ["span", text], ...(small ? [["small", small]] : [])];
  if (onLeave) lines.push(["button", "Give these portraits up"]);
  if (!box.hidden && box.textContent === lines.map(([, line]) => line).join("")) return;
  box.replaceChildren(
    ...lines.map(([tag, textContent]) => Object.assign(document.createElement(tag), { textContent })),
  );
  const button = box.querySelector("button");
  if (button) Object.assign(button, { type: "button", className: "small", onclick: onLeave });
  box.hidden = false;
}

function remedyOf({ code, status, details, remedy }) {
  if (code === "insufficient_credits") {
    return "Ask whoever runs this service for credits, or make fewer portraits.";
  }
  return status === 429 && details?.retry_after_seconds
    ? `Try again in ${details.retry_after_seconds} seconds.`
    : remedy;
}

/**
 * Shows what went wrong; where a token is missing, asks for one.
 *
 * @param {unknown} error
 * @param {{repeated?: boolean, onLeave?: () => void}} [options] `repeated`: the page asks again by itself; `onLeave`: see
 * {@linkcode showMessage}
 */
export function showProblem(error, { repeated = false, onLeave } = {}) {
  const problem = error instanceof ProblemError
    ? error.problem
    : isConnectionLoss(error)
    ? { title: "The service cannot be reached", detail: "", remedy: "Check the connection and try again." }
    : { title: "Something went wrong on this page", detail: "", remedy: "Load the page again." };
  if (problem.status === 401) return askForToken(problem);
  if (!(error instanceof ProblemError) && !isConnectionLoss(error)) console.error(error);
  if (repeated) return showMessage(problem.title, "This page asks again by itself.");
  showMessage(
    problem.title,
    `${problem.detail} ${remedyOf(problem)}`.trim(),
    problem.request_id && `${problem.code}, request ${problem.request_id}`,
    onLeave,
  );
}

/** Takes the problem away. */
export function clearProblem() {
  $("problem").hidden = true;
}

/**
 * Fills a place with lines.
 *
 * @param {string} id of the place
 * @param {[className: string, text: string][]} lines
 */
export function say(id, lines) {
  // the same again is not said aloud again
  if ($(id).textContent === lines.map(([, text]) => text).join("")) return;
  $(id).replaceChildren(
    ...lines.map(([className, textContent]) =>
      Object.assign(document.createElement("p"), { className, textContent })
    ),
  );
}

/** Tells a screen reader. */
export function announce(text) {
  $("said").textContent = text;
}
