/** The generation that is being made: from the request to its portraits on the page. */

import { call, ProblemError } from "./api.js";
import { followGeneration } from "./generation.js";
import * as kept from "./history.js";
import { announce, clearProblem, showMessage, showProblem } from "./messages.js";
import { findPhoto, keepRequest, KEY_MILLISECONDS, removeRequest, requestLost } from "./pending_requests.js";
import { askUntilAnswered } from "./retry.js";
import * as tab from "./tab_storage.js";

const ACTIVE = "idadapter.active";

/** How long a canceled request that the service has not answered is still sent, to cancel what may have arrived. */
const CANCEL_MILLISECONDS = 5_000;

const STAGES = { references: "Looking at the photo…", prompt: "Reading the words…", denoise: "Painting" };

const $ = (id) => document.getElementById(id);

/** Where a run stands, in words. */
function describe({ id, step, lost, canceled }) {
  if (canceled) {
    return lost && id !== undefined
      ? "Canceling… The service cannot be reached at the moment."
      : "Canceling…";
  }
  if (!lost) return step;
  return id === undefined
    ? "Connection lost. Your request is sent again…"
    : "Connection lost. Your portraits are still being made…";
}

function toForm(request, photo) {
  const form = new FormData();
  form.append("reference_images", photo, "photo.jpg");
  for (const [name, value] of Object.entries(request)) form.append(name, String(value));
  return form;
}

/**
 * A request, and what is known of it.
 *
 * @typedef {object} Wanted
 * @property {string} key Idempotency-Key
 * @property {number} time when it was made, milliseconds since 1970
 * @property {object} request fields of `POST /v1/generations`
 * @property {Blob} [photo] left out after a reload
 * @property {string} [id] of the generation, once it was accepted
 * @property {boolean} [canceled]
 */

/** Makes portraits, one generation at a time. */
export class Making {
  /** the run in progress; undefined when nothing is being made */
  running;
  #active;
  #tiles;
  #page;

  /**
   * @param {import("./tiles.js").Tiles} tiles where the portraits appear
   * @param {object} page
   * @param {(running: {photo?: Blob}) => void} page.onBegin told when a run begins; after a reload its photo is found later
   * @param {() => void} page.onAccepted told when its price is reserved
   * @param {() => Promise<void>} page.onKept told when its portraits are kept in this browser
   * @param {() => void} page.onEnd told when it is over, whatever came of it
   */
  constructor(tiles, page) {
    this.#tiles = tiles;
    this.#page = page;
    $("cancel").addEventListener("click", () => void this.cancel());
  }

  /**
   * Makes portraits, and first shows those that were paid for and could not be asked for: the tab remembers one.
   *
   * @param {Wanted} wanted
   */
  async makeNext(wanted) {
    if (await this.resume()) await this.#make(wanted);
  }

  /**
   * A page that was loaded again, or could not be answered, takes up what it was watching.
   *
   * @returns {Promise<boolean>} whether it may go on to the next: what it watched, if anything, is kept in this browser. Canceled
   * or failed, that is what it shows, and whoever wants more asks once more.
   */
  async resume() {
    const active = this.#watched();
    if (active === null) return true;
    return !this.running && await this.#make(active, true);
  }

  /** Cancels the run in progress; before it was accepted, as soon as it is, and only for so long. */
  async cancel() {
    const { running } = this;
    if (!running) return;
    running.canceled = true;
    this.#remember(running);
    // a button that is disabled loses the focus to nowhere
    if (document.activeElement === $("cancel")) $("stage").focus({ preventScroll: true });
    $("cancel").disabled = true;
    this.#show(running);
    if (running.id === undefined) {
      running.patience ??= setTimeout(() => running.watching.abort(), CANCEL_MILLISECONDS);
      return;
    }
    try {
      await this.#ask(
        running,
        (signal) => call(`/v1/generations/${running.id}/cancel`, { method: "POST", signal }),
      );
    } catch (error) {
      // it had finished before: its end is on its way, or was shown
      if (error.problem?.code === "generation_finished" || this.running !== running) return;
      running.canceled = false;
      this.#remember(running);
      $("cancel").disabled = false;
      this.#show(running);
      showProblem(error);
    }
  }

  /** @returns {Promise<boolean>} whether there are portraits, and they are kept in this browser */
  async #make({ key, time, request, photo, id, canceled = false }, resumed = false) {
    clearProblem();
    let madeAndKept = false;
    let failure;
    const watching = new AbortController();
    const running = this.running = {
      ...{ key, time, request, photo, id, canceled, watching },
      shown: new Set(),
      final: undefined,
      step: "Waiting for a place…",
      lost: false,
      mayHaveArrived: resumed,
    };
    this.#begin(running);
    try {
      if (!resumed) await keepRequest({ key, time, request, photo });
      running.photo ??= await findPhoto(key);
      this.#remember(running);
      if (canceled) void this.cancel();
      await this.#follow(running);
      if (watching.signal.aborted) this.#giveUp();
      else madeAndKept = await this.#finish(running);
      this.#forget(key);
    } catch (error) {
      const { code, status } = error.problem ?? {};
      const gone = code === "generation_not_found";
      // what may have arrived can still be asked for: with another token, or of an instance that does better
      const askable = running.mayHaveArrived && (status === 401 || status === 403 || status >= 500);
      if (gone || running.id === undefined && !askable) this.#forget(key);
      // what is only out of reach may be paid for: `resume` takes it up again
      if (gone || running.id === undefined) this.#tiles.clear();
      failure = error;
    } finally {
      this.#end(running);
    }
    // not before: a dialog gives the focus back to where it was
    if (failure !== undefined) showProblem(failure, { onLeave: this.#watched() && (() => this.#leave(key)) });
    return madeAndKept;
  }

  /** Nobody wants the portraits any more that could not be asked for. */
  #leave(key) {
    this.#forget(key);
    this.#tiles.clear();
    clearProblem();
    $("stage").focus({ preventScroll: true });
  }

  #begin(running) {
    const pressed = document.activeElement === $("make");
    this.#tiles.begin(running.request.num_images);
    $("running").hidden = false;
    $("cancel").disabled = false;
    $("progress").value = 0;
    this.#show(running);
    // "Make portraits" is about to be disabled, and would lose the focus to nowhere
    if (pressed) $("cancel").focus();
    this.#page.onBegin(running);
    // each step said aloud would drown everything else: a screen reader is told of start, loss and end
    announce("Making portraits.");
    if (matchMedia("(max-width: 879px)").matches) $("stage").scrollIntoView();
  }

  #end(running) {
    clearTimeout(running.patience);
    running.watching.abort();
    this.running = undefined;
    const focused = $("running").contains(document.activeElement);
    $("running").hidden = true;
    if (focused) $("stage").focus({ preventScroll: true });
    this.#page.onEnd();
  }

  async #follow(running) {
    const { key, time, request, photo, id, watching } = running;
    if (id === undefined && photo === undefined) throw requestLost();
    await followGeneration({
      form: id === undefined ? toForm(request, photo) : undefined,
      key,
      id,
      sent: running,
      expires: time + KEY_MILLISECONDS,
      signal: watching.signal,
      onAccepted: (accepted) => {
        clearTimeout(running.patience);
        running.id = accepted;
        this.#remember(running);
        if (running.canceled) void this.cancel();
        this.#page.onAccepted();
      },
      onConnection: (lost) => this.#tellConnection(running, lost),
      onEvent: (event, data) => this.#take(running, event, data),
    });
  }

  #take(running, event, data) {
    if (event === "progress") {
      running.step = data.stage === "denoise"
        ? `Painting, step ${data.step} of ${data.steps}`
        : STAGES[data.stage] ?? "Finishing…";
      this.#show(running);
      if (data.steps > 0) $("progress").value = data.step / data.steps;
    } else if (event === "preview") this.#tiles.preview(data);
    else if (event === "image") {
      this.#tiles.finish(data, running.request);
      running.shown.add(data.index);
    } else if (event === "succeeded" || event === "failed") running.final = { event, data };
  }

  #show(running) {
    $("running-text").textContent = describe(running);
  }

  #tellConnection(running, lost) {
    if (lost === running.lost) return;
    running.lost = lost;
    this.#show(running);
    announce(lost ? "Connection lost." : "The connection is back.");
  }

  /**
   * Asks for what is left of a generation that was taken on.
   *
   * @template Answer
   * @param {object} running
   * @param {(signal: AbortSignal) => Promise<Answer>} ask
   */
  #ask(running, ask) {
    return askUntilAnswered(ask, (lost) => this.#tellConnection(running, lost), running.watching.signal);
  }

  /** How it ended, asked for where its events had been forgotten. */
  async #endOf(running) {
    const { id, final } = running;
    if (final?.event === "failed") return { error: final.data };
    return final?.data ??
      await this.#ask(running, async (signal) => (await call(`/v1/generations/${id}`, { signal })).json());
  }

  /** Shows what came of it. @returns {Promise<boolean>} whether there are portraits, and they are kept in this browser */
  async #finish(running) {
    const { request, photo } = running;
    const generation = await this.#endOf(running);
    if (generation.error) {
      this.#tiles.clear();
      if (generation.error.code === "canceled") announce("Canceled. Nothing was charged.");
      else showProblem(new ProblemError(generation.error));
      return false;
    }
    const images = [];
    for (const image of generation.images) {
      const blob = running.shown.has(image.index)
        ? this.#tiles.blobOf(image.index)
        : await this.#ask(running, async (signal) => (await call(image.url, { signal })).blob());
      if (!running.shown.has(image.index)) this.#tiles.finish({ ...image, blob }, request);
      images.push({ blob, seed: image.seed, similarity: image.identity_similarity });
    }
    const isKept = images.length > 0 &&
      await kept.keep({ id: generation.id, time: Date.now(), request, photo, images })
        .then(() => true, () => false);
    await this.#page.onKept();
    announce(
      images.length === 1 ? "Your portrait is finished." : `Your ${images.length} portraits are finished.`,
    );
    return isKept;
  }

  /** Canceled, and the service has not said whether the request arrived. */
  #giveUp() {
    this.#tiles.clear();
    showMessage("Canceled", "The service did not answer. If your request had arrived, it may be charged.");
  }

  /** What the tab watches; a reload forgets the photo, which is with the pending requests. */
  #watched() {
    return this.#active ?? JSON.parse(tab.getItem(ACTIVE));
  }

  #remember({ key, time, request, photo, id, canceled }) {
    this.#active = { key, time, request, photo, id, canceled };
    tab.setItem(ACTIVE, JSON.stringify({ key, time, request, id, canceled }));
  }

  #forget(key) {
    this.#active = undefined;
    tab.removeItem(ACTIVE);
    void removeRequest(key);
  }
}
