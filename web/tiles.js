/** The portraits in the middle of the page: previews while they are made, then the pictures with what can be done with them. */

function toBlob({ data, content_type: type }) {
  return new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))], { type });
}

function button(text, label, onClick) {
  const element = Object.assign(document.createElement("button"), {
    type: "button",
    className: "small",
    textContent: text,
  });
  element.setAttribute("aria-label", label);
  element.title = label;
  element.addEventListener("click", onClick);
  return element;
}

/** The list of portraits. */
export class Tiles {
  #list;
  #actions;
  #tiles = [];
  #blobs = new Map();

  /**
   * @param {HTMLUListElement} list
   * @param {{again: (request: object, seed: number) => void, remove: () => void}} actions
   */
  constructor(list, actions) {
    this.#list = list;
    this.#actions = actions;
  }

  /** Empties the list. */
  clear() {
    for (const { img } of this.#tiles) if (img.src) URL.revokeObjectURL(img.src);
    this.#tiles = [];
    this.#blobs.clear();
    this.#list.replaceChildren();
  }

  /** Makes room for so many portraits. */
  begin(count) {
    this.clear();
    for (let index = 0; index < count; index++) {
      const tile = Object.assign(document.createElement("li"), { className: "tile" });
      const picture = tile.appendChild(
        Object.assign(document.createElement("div"), { className: "picture waiting" }),
      );
      const img = Object.assign(document.createElement("img"), {
        alt: `Portrait ${index + 1}, being made`,
        hidden: true,
      });
      picture.append(img);
      this.#list.append(tile);
      this.#tiles.push({ tile, picture, img });
    }
  }

  #put(index, blob) {
    const { img } = this.#tiles[index];
    if (img.src) URL.revokeObjectURL(img.src);
    img.src = URL.createObjectURL(blob);
    img.hidden = false;
  }

  /** Shows a `preview` event. */
  preview(data) {
    if (!this.#blobs.has(data.index)) this.#put(data.index, toBlob(data));
  }

  /** Shows a finished portrait: an `image` event, or one with its `blob`. */
  finish(image, request) {
    const { index, seed } = image;
    const similarity = image.identity_similarity ?? image.similarity;
    const blob = image.blob ?? toBlob(image);
    this.#put(index, blob);
    this.#blobs.set(index, blob);
    const { tile, picture, img } = this.#tiles[index];
    picture.classList.remove("waiting");
    img.alt = `Portrait ${index + 1}: ${request.prompt}`;
    const caption = Object.assign(document.createElement("div"), { className: "caption" });
    const facts = document.createElement("span");
    facts.textContent = `Seed ${seed}` +
      (typeof similarity === "number" ? `, likeness ${similarity.toFixed(2)}` : "");
    const row = Object.assign(document.createElement("div"), { className: "row" });
    const download = button("Download", `Download portrait ${index + 1}`, () => {
      const href = URL.createObjectURL(blob);
      Object.assign(document.createElement("a"), { href, download: `portrait_seed_${seed}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(href), 10_000);
    });
    row.append(
      download,
      button("Again", `Again with seed ${seed}`, () => this.#actions.again(request, seed)),
    );
    caption.append(facts, row);
    tile.querySelector(".caption")?.remove();
    tile.append(caption);
  }

  /** The file of a finished portrait. */
  blobOf(index) {
    return this.#blobs.get(index);
  }

  /** Shows a kept generation again. */
  show({ images, request }) {
    this.begin(images.length);
    images.forEach((image, index) => this.finish({ ...image, index }, request));
    const item = Object.assign(document.createElement("li"), { className: "row" });
    item.append(
      button("Remove", "Remove these portraits from this browser", () => this.#actions.remove()),
    );
    this.#list.append(item);
  }
}
