// Keys, bound to the window: they need no focus, and are silent while a field is typed in or a dialog is open.

import { ACTIONS, act } from "./actions.js";

const NAMES = {
  " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", Delete: "Del", Backspace: "⌫",
};

/** "Ctrl+Shift+z", "Shift+ArrowLeft", "?": letters small, Shift named only where it does not make another character. */
export function chordOf(event) {
  let { key } = event;
  if (key.length === 1 && key > "~" && /^Key/.test(event.code)) key = event.code.slice(3);  // other alphabets: by place
  const isCharacter = key.length === 1;
  if (isCharacter) key = key.toLowerCase();
  const hasControl = event.ctrlKey || event.metaKey;
  const isShifted = event.shiftKey && (!isCharacter || hasControl);
  return `${hasControl ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${isShifted ? "Shift+" : ""}${key}`;
}

export function isTyping(element) {
  return Boolean(element?.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]"));
}

function find(chord, step) {
  const fits = Object.entries(ACTIONS).filter(([, action]) => action.keys.includes(chord));
  return fits.find(([, action]) => action.step === step) ?? fits.find(([, action]) => !action.step) ?? [];
}

/** Binds the keys. `isAway()` says whether another sheet covers the picture. */
export function bindKeys(app, isAway) {
  window.addEventListener("keydown", (event) => {
    app.notice();
    const focused = document.activeElement;
    if (isTyping(event.target) || isTyping(focused) || isAway() || event.isComposing) return;
    if ((event.key === "Enter" || event.key === " ") && focused?.closest("button, a, summary")) return;  // its own key
    const [name, action] = find(chordOf(event), app.step);
    if (!name) return;
    event.preventDefault();
    if (event.repeat && !action.repeats) return;
    act(app, name, chordOf(event));
  });
}

export function keyName(chord) {
  return chord.split(/\+(?=.)/).map((part) => NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join("+");
}

export function keyNames({ keys, label }) {
  return label ? [label] : keys.map(keyName);
}

/** Gives buttons with `data-action` their deed, and the name of their key. */
export function bindButtons(app, root) {
  for (const button of root.querySelectorAll("[data-action]")) {
    const action = ACTIONS[button.dataset.action];
    button.title = action.does;
    button.setAttribute("aria-keyshortcuts", action.keys.map((key) => (key === " " ? "Space" : key)).join(" "));
    button.querySelector("kbd")?.append(keyNames(action)[0]);
    button.addEventListener("mousedown", (event) => event.preventDefault());  // the focus stays where it is
    button.addEventListener("click", () => {
      app.notice();
      act(app, button.dataset.action);
    });
  }
}
