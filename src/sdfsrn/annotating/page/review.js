// The review: all poses on one sheet, sorted by azimuth, so that a flip stands out; and what deserves a look.

import { element, write } from "./dom.js";
import { drawBox } from "./figure.js";
import { boxSide, normalized, placed, sector } from "./pose.js";
import { project } from "./projection.js";

const SIDE = 148;  // CSS pixels of a cell
const MARGIN = 1.35;  // of the shown window, in sides of the window that training cuts out
const FACES = ["towards you", "towards you, to the right", "to the right", "away, to the right", "away from you",
  "away, to the left", "to the left", "towards you, to the left"];

function load(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    Object.assign(image, { onload: () => resolve(image), onerror: reject, src: url });
  });
}

function paint(canvas, image, draft, pose) {
  const ratio = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: SIDE * ratio, height: SIDE * ratio });
  const context = canvas.getContext("2d");
  const whole = placed(pose, draft.frame);
  const side = Math.min(MARGIN * draft.frame.scale * draft.width, 1.2 * Math.max(draft.width, draft.height));
  const zoom = SIDE / side;
  const left = SIDE / 2 - zoom * (draft.frame.x + 1) * draft.width / 2;
  const top = SIDE / 2 - zoom * (draft.frame.y + 1) * draft.height / 2;
  context.scale(ratio, ratio);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, left, top, zoom * draft.width, zoom * draft.height);
  const toCell = (points) => project(whole, draft, points).map(([x, y, z]) => [left + zoom * x, top + zoom * y, z]);
  drawBox(context, whole, boxSide(draft), toCell, { isSmall: true });
}

export class Review {
  /** `open(id)` leaves the sheet for a picture; `improve(picture, pose)` takes over a better pose. */
  constructor({ server, outbox, pictures, sheet, open, improve }) {
    Object.assign(this, { server, outbox, pictures, sheet, open, improve, turn: 0 });
    this.seen = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
      if (!isIntersecting) return;
      this.seen.unobserve(target);
      target.paint();
    }), { rootMargin: "300px" });
    sheet.addEventListener("keydown", (event) => this._walk(event));
  }

  async show(all) {
    this.turn += 1;
    const { turn } = this;
    await this.outbox.emptied();
    const { sheet, look } = await this.server.json("/api/review");
    if (turn !== this.turn) return;
    const byId = new Map(all.map((picture) => [picture.id, picture]));
    this.seen.disconnect();
    this.sheet.replaceChildren(...this._look(look, byId), ...this._sectors(sheet.map((id) => byId.get(id))));
    if (sheet.length === 0) this.sheet.append(element("p", { class: "note" }, "No picture has a pose yet."));
    this.sheet.querySelector("button")?.focus();
  }

  _look(look, byId) {
    if (look.length === 0) return [];
    const cells = look.flatMap(({ id, reason, better }) => {
      const picture = byId.get(id);
      const cells = [this._cell(picture, reason)];
      if (better) {
        const cell = this._cell(picture, "fits better: take this pose", better);
        cell.classList.add("better");
        cells.push(cell);
      }
      return cells;
    });
    return [element("section", {}, element("h3", {}, look.length === 1 ? "Look at this picture" : `Look at these ${look.length}`), element("div", { class: "cells" }, ...cells))];
  }

  _sectors(pictures) {
    const groups = [...Array(8).keys()].map((i) => pictures.filter(({ azimuth }) => sector(azimuth) === i));
    const first = groups[0];
    groups[0] = [...first.filter(({ azimuth }) => azimuth > 180), ...first.filter(({ azimuth }) => azimuth <= 180)];
    return groups.flatMap((group, i) => (group.length === 0 ? [] : [element(
      "section", {},
      element("h3", {}, `${45 * i}° `, element("span", { class: "pale" }, `front ${FACES[i]} · ${group.length}`)),
      element("div", { class: "cells" }, ...group.map((picture) => this._cell(picture))),
    )]));
  }

  _cell(picture, note = null, better = null) {
    const canvas = element("canvas", { "aria-hidden": "true" });
    const label = element("span", { class: "label" });
    const cell = element("button", { type: "button", class: "sheet-cell", title: picture.name }, canvas, label);
    const azimuth = `${Math.round(better?.azimuth ?? picture.azimuth)}°`;
    label.append(element("b", {}, azimuth), ` ${picture.name}`);
    if (picture.unsure) label.append(element("span", { class: "unsure" }, " ?"));
    if (note) cell.append(element("span", { class: "reason" }, note));
    cell.addEventListener("click", () => (better ? this.improve(picture, normalized(better)) : this.open(picture.id)));
    cell.paint = async () => {
      try {
        const [image, draft] = await Promise.all([
          load(this.pictures.thumbnail(picture.id)), this.server.json(`/api/pictures/${picture.id}`),
        ]);
        paint(canvas, image, draft, normalized(better ?? draft.pose));
        if (!draft.mask) label.append(element("span", { class: "unsure" }, " no mask"));
      } catch {
        write(label, `${picture.name}: not shown`);
      }
    };
    this.seen.observe(cell);
    return cell;
  }

  /** Arrow keys walk from cell to cell. */
  _walk(event) {
    const cells = [...this.sheet.querySelectorAll(".sheet-cell")];
    const at = cells.indexOf(document.activeElement);
    const { left, top } = cells[at]?.getBoundingClientRect() ?? {};
    const rows = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (at < 0 || (!by && !rows)) return;
    event.preventDefault();
    const beyond = cells.filter((cell) => rows * (cell.getBoundingClientRect().top - top) > 1);
    const away = (cell) => {
      const box = cell.getBoundingClientRect();
      return 100 * Math.abs(box.top - top) + Math.abs(box.left - left);
    };
    const to = by ? cells[at + by] : beyond.sort((one, two) => away(one) - away(two))[0];
    to?.focus();
  }
}
