/** The dialog where a token is pasted. */

import { keepToken } from "./api.js";

const $ = (id) => document.getElementById(id);

/**
 * Opens the dialog.
 *
 * @param {{code: string, title: string, remedy: string}} [problem] why a token is asked for
 */
export function askForToken(problem) {
  const box = $("token-problem");
  box.hidden = problem === undefined || problem.code === "token_missing";
  if (problem !== undefined) box.textContent = `${problem.title}. ${problem.remedy}`;
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

/**
 * Lets the dialog be opened, closed and sent.
 *
 * @param {() => void} onToken told when there is a new token
 */
export function connectTokenDialog(onToken) {
  $("token-open").addEventListener("click", () => askForToken());
  $("token-close").addEventListener("click", () => $("token-dialog").close());
  $("token-form").addEventListener("submit", () => {
    keepToken($("token").value.trim().replace(/^Bearer\s+/i, ""));
    $("token").value = "";
    onToken();
  });
}
