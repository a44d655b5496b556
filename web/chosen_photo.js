/** The photo that was chosen: where it comes from, how it is shown, and whether it will do. */

import { call, isConnectionLoss } from "./api.js";
import { startCamera } from "./camera.js";
import { latest } from "./latest.js";
import { clearProblem, say, showProblem } from "./messages.js";
import { preparePhoto } from "./photo.js";
import { askUntilAnswered } from "./retry.js";

const $ = (id) => document.getElementById(id);

/** What to do about each finding of `POST /v1/faces`. */
const IMPROVEMENTS = {
  face_not_found: "No face found. Choose a photo where the face is well lit and looks at the camera.",
  multiple_faces: "More than one face. Choose a photo of one person, or crop it.",
  face_too_small: "The face is too small. Go closer, or crop the photo around it.",
  face_turned_away: "The face is turned away. A photo from the front gives a better likeness.",
  face_cut_off: "The face is cut off. Leave some room around the head.",
  blurred: "The photo is blurred. A sharper one gives a better likeness.",
};

/** One photo, or none yet. */
export class ChosenPhoto {
  /** what is sent; undefined while there is none */
  blob;
  /** whether the service has looked at it */
  checked = false;
  /** whether portraits can be made of it */
  usable = false;
  #onChange;
  #nextChoice = latest();
  #nextCheck = latest();

  /** @param {() => void} onChange told when there is another photo, or it was looked at */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /**
   * Takes a file, if it is a photo.
   *
   * @param {Blob | undefined} file
   */
  async use(file) {
    if (!file) return;
    // a large photo takes long to read: one that was chosen after it must not be replaced by it
    const signal = this.#nextChoice();
    clearProblem();
    // nobody is to pay for portraits of the one before
    this.#nextCheck();
    this.usable = false;
    this.#onChange();
    const blob = await preparePhoto(file).catch(() => undefined);
    if (signal.aborted) return;
    this.set(blob);
    if (blob !== undefined) return await this.check();
    say("check", [[
      "blocking",
      "This browser cannot read that file as a photo. Choose a JPEG, PNG or WebP.",
    ]]);
  }

  /**
   * Shows a photo; it is still to be checked.
   *
   * @param {Blob | undefined} blob as {@linkcode preparePhoto} gives it
   */
  set(blob) {
    const img = $("photo");
    if (img.src) URL.revokeObjectURL(img.src);
    this.blob = blob;
    this.usable = this.checked = false;
    // what is still to be read or answered is about another photo
    this.#nextChoice();
    this.#nextCheck();
    img.hidden = blob === undefined;
    $("drop-hint").hidden = blob !== undefined;
    $("choose").textContent = blob === undefined ? "Choose photo" : "Another photo";
    if (blob !== undefined) img.src = URL.createObjectURL(blob);
    this.#onChange();
  }

  /** Asks the service whether the photo will do, as often as it takes. */
  async check() {
    const signal = this.#nextCheck();
    say("check", [["advice", "Looking at the photo…"]]);
    const body = new FormData();
    body.append("image", this.blob, "photo.jpg");
    try {
      const { problems } = await askUntilAnswered(
        async (signal) => (await call("/v1/faces", { method: "POST", body, signal })).json(),
        (lost, error) => lost && !signal.aborted && sayLater(error),
        signal,
      );
      this.checked = true;
      this.usable = problems.every(({ blocking }) => !blocking);
      sayFindings(problems, this.usable);
    } catch (error) {
      if (signal.aborted) return;
      say("check", []);
      showProblem(error);
    }
    this.#onChange();
  }

  /** Listens to the buttons, the clipboard and what is dropped. */
  connect() {
    const use = (file) => void this.use(file);
    $("choose").addEventListener("click", () => $("file").click());
    $("camera").addEventListener("click", () => {
      // phones have a better camera app than any page
      if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) $("file-camera").click();
      else void startCamera(use);
    });
    for (const id of ["file", "file-camera"]) {
      $(id).addEventListener("change", ({ target }) => {
        use(target.files[0]);
        target.value = "";
      });
    }
    document.addEventListener("paste", ({ clipboardData }) => {
      use([...clipboardData.files].find(({ type }) => type.startsWith("image/")));
    });
    for (const type of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(type, (event) => {
        // text is dropped where the browser drops it
        if (!event.dataTransfer.types.includes("Files")) return;
        event.preventDefault();
        $("drop").classList.toggle("over", type === "dragover");
        if (type === "drop") use(event.dataTransfer.files[0]);
      });
    }
  }
}

function sayLater(error) {
  say("check", [[
    "advice",
    isConnectionLoss(error)
      ? "The photo is looked at as soon as the service can be reached."
      : "The service is busy. The photo is looked at in a moment.",
  ]]);
}

function sayFindings(problems, usable) {
  if (problems.length === 0) return say("check", [["good", "This photo will do: one clear face."]]);
  say("check", [
    ...problems.map(({ code, message, blocking }) => [
      blocking ? "blocking" : "advice",
      IMPROVEMENTS[code] ?? message,
    ]),
    ...(usable ? [["advice", "You can use it all the same."]] : []),
  ]);
}
