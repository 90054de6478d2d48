// The filmstrip: all pictures with their states; arrow keys walk in it, Enter opens.

import { element, write } from "./dom.js";

const WORDS = { nothing: "nothing yet", mask: "mask only", pose: "pose only", done: "done", skipped: "skipped" };

export function stateWords(picture) {
  const flags = [picture.error && "broken", picture.unsure && "unsure", picture.cut_off && "cut off"].filter(Boolean);
  return [WORDS[picture.state] ?? picture.state, ...flags].join(", ");
}

export class Filmstrip {
  constructor(app, list) {
    Object.assign(this, { app, list, cells: new Map() });
    list.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6, Home: -Infinity, End: Infinity }[event.key];
      const focused = document.activeElement;
      if (!by || !list.contains(focused)) return;
      event.preventDefault();
      event.stopPropagation();
      const cells = [...this.cells.values()];
      const to = cells[Math.min(cells.length - 1, Math.max(0, cells.indexOf(focused) + by))];
      focused.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
    });
  }

  build() {
    this.list.replaceChildren();
    this.cells.clear();
    this.app.all.forEach((picture, i) => {
      const cell = element(
        "button", { type: "button", class: "cell", tabindex: "-1" },
        element("img", { src: this.app.pictures.thumbnail(picture.id), alt: "", loading: "lazy", width: 96, height: 66 }),
        element("span", { class: "number" }, String(i + 1)),
        element("span", { class: "marks", "aria-hidden": "true" }),
      );
      cell.addEventListener("mousedown", (event) => event.preventDefault());
      cell.addEventListener("click", () => this.app.open(picture.id));
      this.cells.set(picture.id, cell);
      this.list.append(element("li", {}, cell));
    });
  }

  /** Shows states, and which picture is open. */
  update() {
    const { all, current } = this.app;
    if (this.cells.size !== all.length) this.build();
    for (const picture of all) {
      const cell = this.cells.get(picture.id);
      const isOpen = picture === current;
      if (cell.dataset.state !== picture.state) cell.dataset.state = picture.state;
      cell.classList.toggle("broken", Boolean(picture.error));
      write(cell.querySelector(".marks"), `${picture.unsure ? "?" : ""}${picture.cut_off ? "✂" : ""}`);
      const words = `${picture.name}: ${stateWords(picture)}`;
      if (cell.title !== words) Object.assign(cell, { title: words, ariaLabel: words });
      if (isOpen === (cell.ariaCurrent === "true")) continue;
      cell.ariaCurrent = isOpen ? "true" : null;
      if (!isOpen) continue;
      cell.scrollIntoView({ block: "nearest" });
      if (this.list.contains(document.activeElement)) cell.focus();
      this.cells.forEach((other) => { other.tabIndex = other === cell ? 0 : -1; });
    }
  }
}
