/** The page: what is pressed, what is shown. */

import { call, fetchDevelopmentToken, isConnectionLoss, postJson, storedToken } from "./api.js";
import { ChosenPhoto } from "./chosen_photo.js";
import { createKey } from "./generation.js";
import * as kept from "./history.js";
import { latest } from "./latest.js";
import { Making } from "./making.js";
import { announce, clearProblem, showProblem } from "./messages.js";
import { removeOldRequests } from "./pending_requests.js";
import { askUntilAnswered } from "./retry.js";
import { showSuggestions } from "./suggestions.js";
import { Tiles } from "./tiles.js";
import { connectTokenDialog } from "./token_dialog.js";

const $ = (id) => document.getElementById(id);
const state = { model: undefined, shown: undefined, strength: 1, fault: false };
const credits = new Intl.NumberFormat("en");
const tiles = new Tiles($("tiles"), { again, remove: removeKept });
const photo = new ChosenPhoto(showReady);
const making = new Making(tiles, {
  onBegin(running) {
    // "Again" goes with this photo, whichever is chosen meanwhile
    state.shown = running;
    showReady();
  },
  onAccepted: () => void showBalance(),
  onKept: showKept,
  onEnd() {
    showReady();
    void showConnection();
    void showBalance();
    void showPrice();
  },
});

photo.connect();
connectTokenDialog(() => void begin());

// model, balance, price

/** Shows what the model has to choose from; another one, after a reconnection, changes nothing that was chosen. */
function showModel(model) {
  const first = state.model === undefined;
  state.model = model;
  if (!first) return;
  $("nouns").replaceChildren(...model.class_nouns.map((noun, index) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "radio",
      name: "noun",
      value: noun,
      checked: noun === "person" || index === 0,
    });
    label.append(input, Object.assign(document.createElement("span"), { textContent: noun }));
    return label;
  }));
  nameInPrompt();
  $("count").max = Math.min(model.limits.num_images.max, 8);
  $("strength").min = model.limits.identity_strength.min;
  $("strength").max = model.limits.identity_strength.max;
  $("strength").value = state.strength = model.defaults.identity_strength;
  $("poses").max = model.limits.pose_variation.max;
  $("poses").value = model.defaults.pose_variation;
  $("seed").max = model.limits.seed.max;
  showOptions();
  $("license").textContent = /research/i.test(model.license) ? "The model is for research only." : "";
}

const nextBegin = latest();
const nextBalance = latest();
const nextPrice = latest();

async function showBalance() {
  const signal = nextBalance();
  try {
    const ask = async (signal) => (await call("/v1/account", { signal })).json();
    const { available } = await askUntilAnswered(ask, () => {}, signal);
    const amount = available < 1_000_000 ? credits : new Intl.NumberFormat("en", { notation: "compact" });
    $("balance").textContent = `${amount.format(available)} credits`;
  } catch {
    // a token for one end user, or without `account:read`, has no balance to show
    if (!signal.aborted) $("balance").textContent = "";
  }
}

async function showPrice() {
  if (state.model === undefined) return;
  const signal = nextPrice();
  try {
    const body = { num_images: Number($("count").value) };
    const ask = (signal) => postJson("/v1/generations/price", body, signal);
    const { price, available } = await askUntilAnswered(ask, () => {}, signal);
    $("price").textContent = price > available
      ? `${credits.format(price)} credits, but only ${credits.format(available)} left`
      : `${credits.format(price)} ${price === 1 ? "credit" : "credits"}, charged when they succeed`;
  } catch {
    if (!signal.aborted) $("price").textContent = "";
  }
}

/** Everything that needs the service; called again when there is a new token or a connection. */
async function begin() {
  const signal = nextBegin();
  try {
    const { data: [model] } = await askUntilAnswered(
      async (signal) => {
        if (!storedToken()) await fetchDevelopmentToken();
        return (await call("/v1/models", { signal })).json();
      },
      (lost, error) => {
        // offline, the banner tells it
        if (lost && !signal.aborted && (navigator.onLine || !isConnectionLoss(error))) {
          showFault(error, { repeated: true });
        }
      },
      signal,
    );
    showModel(model);
    // what is said of a request stays
    if (state.fault) clearProblem();
    state.fault = false;
    void showBalance();
    void showPrice();
    if (photo.blob && !photo.checked) void photo.check();
    showReady();
    void making.resume();
  } catch (error) {
    if (!signal.aborted) showFault(error);
  }
}

/** Shows why the page cannot begin, until it has; where a token is missing, a dialog does. */
function showFault(error, options) {
  state.fault = error.problem?.status !== 401;
  showProblem(error, options);
}

// words and options

const reflectSuggestions = showSuggestions($("suggestions"), $("prompt"), showReady);
const noun = () => document.querySelector("input[name=noun]:checked")?.value;

/** The person in the prompt is called what was chosen. */
function nameInPrompt() {
  const nouns = state.model.class_nouns.join("|");
  $("prompt").value = $("prompt").value.replace(new RegExp(`\\b(${nouns})\\b`), noun());
}

function showOptions() {
  $("count-text").textContent = $("count").value;
  const strength = Number($("strength").value);
  const words = strength < state.strength ? "freer" : strength > state.strength ? "stronger" : "as trained";
  $("strength-text").textContent = `${strength.toFixed(1)}, ${words}`;
  $("strength").setAttribute("aria-valuetext", $("strength-text").textContent);
  const poses = Number($("poses").value);
  $("poses-text").textContent = poses === 0 ? "as in the photo" : `varied, up to ${poses}°`;
  $("poses").setAttribute("aria-valuetext", $("poses-text").textContent);
}

function showReady() {
  const ready = state.model && photo.usable && $("prompt").value.trim() !== "" && !making.running;
  $("make").disabled = !ready;
  $("make").textContent = making.running ? "Making portraits…" : "Make portraits";
}

$("nouns").addEventListener("change", nameInPrompt);
$("prompt").addEventListener("input", showReady);
for (const id of ["count", "strength", "poses"]) $(id).addEventListener("input", showOptions);
$("count").addEventListener("change", showPrice);

// making portraits

function readRequest() {
  const seed = $("seed").value.trim();
  return {
    prompt: $("prompt").value.trim(),
    class_noun: noun(),
    num_images: Number($("count").value),
    identity_strength: Number($("strength").value),
    pose_variation: Number($("poses").value),
    ...(seed === "" ? {} : { seed: Number(seed) }),
    preview_interval: Math.max(1, Math.round(state.model.defaults.num_inference_steps / 5)),
  };
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void making.makeNext({ key: createKey(), time: Date.now(), request: readRequest(), photo: photo.blob });
});

// again, and earlier ones

function again(request, seed) {
  $("prompt").value = request.prompt;
  for (const input of document.querySelectorAll("input[name=noun]")) {
    input.checked = input.value === request.class_noun;
  }
  $("count").value = 1;
  $("strength").value = request.identity_strength;
  // what was made by an earlier page says nothing of it
  $("poses").value = request.pose_variation ?? 0;
  $("seed").value = seed;
  if (state.shown?.photo && photo.blob !== state.shown.photo) {
    photo.set(state.shown.photo);
    void photo.check();
  }
  reflectSuggestions();
  showOptions();
  showReady();
  void showPrice();
  $("seed").focus();
}

async function removeKept() {
  const { id } = state.shown;
  state.shown = undefined;
  tiles.clear();
  // the button is gone, and the focus would be with it
  $("stage").focus({ preventScroll: true });
  await kept.remove(id);
  await showKept();
}

async function showKept() {
  const entries = await kept.listKept();
  $("history").hidden = entries.length === 0;
  for (const img of $("history-list").querySelectorAll("img")) URL.revokeObjectURL(img.src);
  $("history-list").replaceChildren(...entries.map((entry) => {
    const item = document.createElement("li");
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.setAttribute(
      "aria-label",
      `${entry.request.prompt}, ${new Date(entry.time).toLocaleString("en")}`,
    );
    button.appendChild(
      Object.assign(document.createElement("img"), {
        src: URL.createObjectURL(entry.images[0].blob),
        alt: "",
      }),
    );
    button.addEventListener("click", () => {
      if (making.running) return announce("Earlier portraits can be looked at when these are finished.");
      clearProblem();
      state.shown = entry;
      tiles.show(entry);
      $("stage").focus({ preventScroll: true });
      $("stage").scrollIntoView({ block: "start" });
    });
    return item;
  }));
}

$("history-clear").addEventListener("click", async () => {
  if (!confirm("Remove all earlier portraits from this browser?")) return;
  await kept.removeAll();
  await showKept();
  $("stage").focus({ preventScroll: true });
});

// connection

/** A service on the same machine is reached without a network, so there the browser's word is not enough. */
async function showConnection() {
  const loopback = /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);
  const reached = loopback && !navigator.onLine && await fetch("/healthz").then(() => true, () => false);
  $("offline").hidden = navigator.onLine || reached;
  $("offline").textContent = making.running
    ? "You are offline. Your portraits are still being made and are shown when you are back."
    : "You are offline. Earlier portraits are still here; new ones need a connection.";
}
globalThis.addEventListener("offline", () => void showConnection());
globalThis.addEventListener("online", () => {
  void showConnection();
  void begin();
});

showReady();
void showConnection();
void showKept();
void removeOldRequests();
void begin();
if (navigator.serviceWorker) void navigator.serviceWorker.register("/service_worker.js").catch(() => {});
