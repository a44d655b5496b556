/** Words the embedded model was trained on (training/idadapter/data/captions.py), as buttons that add them to the prompt. */

/** `one` of a group at a time, or several; each entry is the button's text and the words it adds. */
const GROUPS = [
  { name: "Expression", one: true, words: ["smiling", "laughing", "serious", "surprised", "sad", "angry"] },
  { name: "View", one: true, words: ["facing the camera", "facing left", "facing right", "side view"] },
  { name: "Style", one: true, words: ["pencil sketch", "comic style", "painted in oil", "black and white"] },
  { name: "Wearing", one: false, words: ["with glasses", "wearing a hat", "with a beard", "with lipstick"] },
  { name: "Age", one: true, words: ["youthful", "middle-aged", "elderly"] },
];

function parts(text) {
  return text.split(",").map((part) => part.trim()).filter((part) => part !== "");
}

/**
 * Draws the groups and keeps buttons and prompt telling the same.
 *
 * @param {HTMLElement} container
 * @param {HTMLTextAreaElement} prompt
 * @param {() => void} onChange told after a button changed the prompt
 */
export function showSuggestions(container, prompt, onChange) {
  const buttons = [];
  const reflect = () => {
    const present = new Set(parts(prompt.value));
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(present.has(button.textContent)));
    }
  };
  for (const { name, one, words } of GROUPS) {
    const group = document.createElement("div");
    group.className = "group";
    group.setAttribute("role", "group");
    const title = group.appendChild(document.createElement("span"));
    title.textContent = name;
    title.id = `group-${name.toLowerCase()}`;
    group.setAttribute("aria-labelledby", title.id);
    const chips = group.appendChild(document.createElement("div"));
    chips.className = "chips";
    for (const word of words) {
      const button = chips.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = word;
      button.addEventListener("click", () => {
        const present = parts(prompt.value);
        const chosen = present.includes(word);
        const kept = present.filter((part) => part !== word && !(one && words.includes(part)));
        prompt.value = (chosen ? kept : [...kept, word]).join(", ");
        reflect();
        onChange();
      });
      buttons.push(button);
    }
    container.append(group);
  }
  // on a phone a group is one long line: what is reached with the keyboard comes into view, what is tapped stays
  container.addEventListener("focusin", ({ target }) => {
    if (target.matches(":focus-visible")) target.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  prompt.addEventListener("input", reflect);
  reflect();
  return reflect;
}
