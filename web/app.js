/** The page: what is pressed, what is shown. */

import {
  call,
  fetchDevelopmentToken,
  isConnectionLoss,
  keepToken,
  postJson,
  ProblemError,
  storedToken,
} from "./api.js";
import { startCamera } from "./camera.js";
import { askUntilAnswered, createKey, followGeneration } from "./generation.js";
import * as kept from "./history.js";
import { preparePhoto } from "./photo.js";
import { showSuggestions } from "./suggestions.js";
import { Tiles } from "./tiles.js";

const ACTIVE = "idadapter.active";
const $ = (id) => document.getElementById(id);
const state = {
  photo: undefined,
  usable: false,
  model: undefined,
  running: undefined,
  active: undefined,
  strength: 1,
  checks: 0,
  prices: 0,
};
const credits = new Intl.NumberFormat("en");
const tiles = new Tiles($("tiles"), { again, remove: removeKept });

// problems

function showProblem(error) {
  const box = $("problem");
  const problem = error instanceof ProblemError
    ? error.problem
    : isConnectionLoss(error)
    ? { title: "The service cannot be reached", detail: "", remedy: "Check the connection and try again." }
    : { title: "Something went wrong on this page", detail: "", remedy: "Load the page again." };
  if (problem.status === 401) return askForToken(problem);
  if (!(error instanceof ProblemError) && !isConnectionLoss(error)) console.error(error);
  const remedy = problem.code === "insufficient_credits"
    ? "Ask whoever runs this service for credits, or make fewer portraits."
    : problem.status === 429 && problem.details?.retry_after_seconds
    ? `Try again in ${problem.details.retry_after_seconds} seconds.`
    : problem.remedy;
  box.replaceChildren(
    Object.assign(document.createElement("strong"), { textContent: problem.title }),
    Object.assign(document.createElement("span"), { textContent: `${problem.detail} ${remedy}`.trim() }),
  );
  if (problem.request_id) {
    box.append(
      Object.assign(document.createElement("small"), {
        textContent: `${problem.code}, request ${problem.request_id}`,
      }),
    );
  }
  box.hidden = false;
  $("empty").hidden = true;
}

function clearProblem() {
  $("problem").hidden = true;
}

// token

function askForToken(problem) {
  const box = $("token-problem");
  box.hidden = problem === undefined || problem.code === "token_missing";
  if (problem !== undefined) box.textContent = `${problem.title}. ${problem.remedy}`;
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

$("token-open").addEventListener("click", () => askForToken());
$("token-close").addEventListener("click", () => $("token-dialog").close());
$("token-form").addEventListener("submit", () => {
  keepToken($("token").value.trim().replace(/^Bearer\s+/i, ""));
  $("token").value = "";
  void begin();
});

// model, balance, price

async function loadModel() {
  const { data: [model] } = await (await call("/v1/models")).json();
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
  const { count, strength, seed } = { count: $("count"), strength: $("strength"), seed: $("seed") };
  count.max = Math.min(model.limits.num_images.max, 8);
  strength.min = model.limits.identity_strength.min;
  strength.max = model.limits.identity_strength.max;
  strength.value = state.strength = model.defaults.identity_strength;
  $("poses").max = model.limits.pose_variation.max;
  $("poses").value = model.defaults.pose_variation;
  seed.max = model.limits.seed.max;
  showOptions();
  $("license").textContent = /research/i.test(model.license) ? "The model is for research only." : "";
}

async function showBalance() {
  const { available } = await (await call("/v1/account")).json();
  const amount = available < 1_000_000 ? credits : new Intl.NumberFormat("en", { notation: "compact" });
  $("balance").textContent = `${amount.format(available)} credits`;
}

async function showPrice() {
  if (state.model === undefined) return;
  const turn = ++state.prices;
  try {
    const { price, available } = await postJson("/v1/generations/price", {
      num_images: Number($("count").value),
    });
    if (turn !== state.prices) return;
    $("price").textContent = price > available
      ? `${credits.format(price)} credits, but only ${credits.format(available)} left`
      : `${credits.format(price)} ${price === 1 ? "credit" : "credits"}, charged when they succeed`;
  } catch {
    if (turn === state.prices) $("price").textContent = "";
  }
}

/** Everything that needs the service; called again when there is a new token or a connection. */
async function begin() {
  try {
    if (!storedToken()) await fetchDevelopmentToken();
    await loadModel();
    clearProblem();
    await Promise.all([showBalance(), showPrice()]);
    if (state.photo && !state.checked) await checkPhoto();
    showReady();
    void resume();
  } catch (error) {
    if (navigator.onLine || !isConnectionLoss(error)) showProblem(error);
  }
}

// photo

async function usePhoto(file) {
  if (!file) return;
  clearProblem();
  try {
    setPhoto(await preparePhoto(file));
  } catch {
    setPhoto(undefined);
    say("check", [[
      "blocking",
      "This browser cannot read that file as a photo. Choose a JPEG, PNG or WebP.",
    ]]);
    return;
  }
  await checkPhoto();
}

function setPhoto(blob) {
  const img = $("photo");
  if (img.src) URL.revokeObjectURL(img.src);
  state.photo = blob;
  state.usable = state.checked = false;
  // what is still to be answered is about the photo before
  state.checks++;
  img.hidden = blob === undefined;
  $("drop-hint").hidden = blob !== undefined;
  $("choose").textContent = blob === undefined ? "Choose photo" : "Another photo";
  if (blob !== undefined) img.src = URL.createObjectURL(blob);
  showReady();
}

function say(id, lines) {
  $(id).replaceChildren(
    ...lines.map(([className, textContent]) =>
      Object.assign(document.createElement("p"), { className, textContent })
    ),
  );
}

/** What to do about each finding of `POST /v1/faces`. */
const improvements = {
  face_not_found: "No face found. Choose a photo where the face is well lit and looks at the camera.",
  multiple_faces: "More than one face. Choose a photo of one person, or crop it.",
  face_too_small: "The face is too small. Go closer, or crop the photo around it.",
  face_turned_away: "The face is turned away. A photo from the front gives a better likeness.",
  face_cut_off: "The face is cut off. Leave some room around the head.",
  blurred: "The photo is blurred. A sharper one gives a better likeness.",
};

async function checkPhoto() {
  const turn = ++state.checks;
  say("check", [["advice", "Looking at the photo…"]]);
  const form = new FormData();
  form.append("image", state.photo, "photo.jpg");
  try {
    const { problems } = await (await call("/v1/faces", { method: "POST", body: form })).json();
    if (turn !== state.checks) return;
    state.checked = true;
    state.usable = problems.every(({ blocking }) => !blocking);
    say(
      "check",
      problems.length === 0 ? [["good", "This photo will do: one clear face."]] : [
        ...problems.map(({ code, message, blocking }) => [
          blocking ? "blocking" : "advice",
          improvements[code] ?? message,
        ]),
        ...(state.usable ? [["advice", "You can use it all the same."]] : []),
      ],
    );
  } catch (error) {
    if (turn !== state.checks) return;
    if (isConnectionLoss(error)) {
      say("check", [["advice", "The photo is looked at as soon as the service can be reached."]]);
    } else {
      say("check", []);
      showProblem(error);
    }
  }
  showReady();
}

$("choose").addEventListener("click", () => $("file").click());
$("camera").addEventListener("click", () => {
  // phones have a better camera app than any page
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) $("file-camera").click();
  else void startCamera(usePhoto);
});
for (const id of ["file", "file-camera"]) {
  $(id).addEventListener("change", ({ target }) => {
    void usePhoto(target.files[0]);
    target.value = "";
  });
}
document.addEventListener("paste", ({ clipboardData }) => {
  void usePhoto([...clipboardData.files].find(({ type }) => type.startsWith("image/")));
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", type === "dragover");
    if (type === "drop") void usePhoto(event.dataTransfer.files[0]);
  });
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
  const ready = state.model && state.usable && $("prompt").value.trim() !== "" && !state.running;
  $("make").disabled = !ready;
  $("make").textContent = state.running ? "Making portraits…" : "Make portraits";
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
  const request = readRequest();
  const form = new FormData();
  form.append("reference_images", state.photo, "photo.jpg");
  for (const [name, value] of Object.entries(request)) form.append(name, String(value));
  void makeNext({ form, key: createKey(), request, photo: state.photo });
});

/** Makes portraits, and first shows those that were paid for and could not be asked for: the tab remembers one. */
async function makeNext(wanted) {
  await resume();
  if (watched() === null) await make(wanted);
}

const stages = { references: "Looking at the photo…", prompt: "Reading the words…", denoise: "Painting" };

async function make({ form, key, id, request, photo }) {
  clearProblem();
  // "Again" goes with this photo, whichever is chosen meanwhile
  state.shown = { photo };
  const watching = new AbortController();
  const running = state.running = { id, watching, images: new Map(), final: undefined, canceled: false };
  tiles.begin(request.num_images);
  showReady();
  $("empty").hidden = true;
  $("running").hidden = false;
  $("cancel").disabled = false;
  $("progress").value = 0;
  $("running-text").textContent = "Waiting for a place…";
  // each step said aloud would drown everything else: a screen reader is told of start, loss and end
  announce("Making portraits.");
  if (matchMedia("(max-width: 879px)").matches) $("stage").scrollIntoView();
  try {
    await followGeneration({
      form,
      key,
      id,
      signal: watching.signal,
      onAccepted: (accepted) => {
        running.id = accepted;
        state.active = { id: accepted, key, request, photo };
        sessionStorage.setItem(ACTIVE, JSON.stringify({ id: accepted, key, request }));
        if (running.canceled) void cancel();
        void showBalance().catch(() => {});
      },
      onConnection: tellConnection,
      onEvent: (event, data) => {
        if (event === "progress") {
          $("running-text").textContent = data.stage === "denoise"
            ? `Painting, step ${data.step} of ${data.steps}`
            : stages[data.stage] ?? "Finishing…";
          if (data.steps > 0) $("progress").value = data.step / data.steps;
        } else if (event === "preview") tiles.preview(data);
        else if (event === "image") {
          tiles.finish(data, request);
          running.images.set(data.index, data);
        } else if (event === "succeeded" || event === "failed") running.final = { event, data };
      },
    });
    await finish(running, request, photo);
    forgetActive();
  } catch (error) {
    const gone = error.problem?.code === "generation_not_found";
    if (gone) forgetActive();
    // what is only out of reach may be paid for: `begin` takes it up again
    if (gone || running.id === undefined) tiles.clear();
    showProblem(error);
  } finally {
    state.running = undefined;
    $("running").hidden = true;
    showReady();
    $("empty").hidden = tiles.count > 0 || !$("problem").hidden;
    void Promise.all([showBalance(), showPrice()]).catch(() => {});
  }
}

function watched() {
  return state.active ?? JSON.parse(sessionStorage.getItem(ACTIVE));
}

function forgetActive() {
  state.active = undefined;
  sessionStorage.removeItem(ACTIVE);
}

function tellConnection(lost) {
  if (!lost) return;
  $("running-text").textContent = state.running.id === undefined
    ? "Connection lost. Your request is sent again…"
    : "Connection lost. Your portraits are still being made…";
  announce("Connection lost.");
}

/** Asks for what is left of a generation that was taken on. */
function ask(path, read) {
  const { signal } = state.running.watching;
  return askUntilAnswered(async () => await read(await call(path)), tellConnection, signal);
}

/** How it ended, asked for where its events had been forgotten. */
async function endOf({ id, final }) {
  if (final?.event === "failed") return { error: final.data };
  return final?.data ?? await ask(`/v1/generations/${id}`, (answer) => answer.json());
}

async function finish(running, request, photo) {
  const generation = await endOf(running);
  if (generation.error) {
    tiles.clear();
    if (generation.error.code !== "canceled") return showProblem(new ProblemError(generation.error));
    $("running-text").textContent = "";
    announce("Canceled. Nothing was charged.");
    return;
  }
  const images = [];
  for (const image of generation.images) {
    const blob = running.images.has(image.index)
      ? tiles.blobOf(image.index)
      : await ask(image.url, (answer) => answer.blob());
    if (!running.images.has(image.index)) tiles.finish({ ...image, blob }, request);
    images.push({ blob, seed: image.seed, similarity: image.identity_similarity });
  }
  await kept.keep({ id: generation.id, time: Date.now(), request, photo, images }).catch(() => {});
  await showKept();
  announce(
    images.length === 1 ? "Your portrait is finished." : `Your ${images.length} portraits are finished.`,
  );
}

function announce(text) {
  $("said").textContent = text;
}

async function cancel() {
  const { running } = state;
  if (!running) return;
  running.canceled = true;
  $("cancel").disabled = true;
  $("running-text").textContent = "Canceling…";
  if (running.id === undefined) return;
  try {
    await call(`/v1/generations/${running.id}/cancel`, { method: "POST" });
  } catch (error) {
    // it had finished before: its end is on its way
    if (error.problem?.code === "generation_finished") return;
    $("cancel").disabled = false;
    showProblem(error);
  }
}

$("cancel").addEventListener("click", () => void cancel());

/** A page that was loaded again, or could not be answered, takes up what it was watching. */
async function resume() {
  const active = watched();
  if (active && !state.running) await make(active);
}

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
  if (state.shown?.photo && state.photo !== state.shown.photo) {
    setPhoto(state.shown.photo);
    void checkPhoto();
  }
  reflectSuggestions();
  showOptions();
  showReady();
  void showPrice();
  $("seed").focus();
}

async function removeKept() {
  await kept.remove(state.shown.id);
  state.shown = undefined;
  tiles.clear();
  $("empty").hidden = false;
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
      if (state.running) return;
      clearProblem();
      state.shown = entry;
      $("empty").hidden = true;
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
});

// connection

/** A service on the same machine is reached without a network, so there the browser's word is not enough. */
async function showConnection() {
  const loopback = /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);
  const reached = loopback && !navigator.onLine && await fetch("/healthz").then(() => true, () => false);
  $("offline").hidden = navigator.onLine || reached;
  $("offline").textContent = state.running
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
void begin();
if (navigator.serviceWorker) void navigator.serviceWorker.register("/service_worker.js").catch(() => {});
