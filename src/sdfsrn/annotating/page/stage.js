// The stage: three canvases over each other (picture, mask, and what moves), each drawn again only when it changes.

import { drawBox, drawRing } from "./figure.js";
import { canvasOf } from "./mask.js";
import { placed } from "./pose.js";
import { project } from "./projection.js";
import { View } from "./view.js";

const LAYERS = ["picture", "mask", "overlay"];
const SMOOTH = 3;  // device pixels per pixel of the picture; beyond, pixels are shown as squares
const ADD = "#3ee68a", REMOVE = "#ff7468";

export class Stage {
  /** `app` holds what is drawn; `element` contains one canvas per layer. */
  constructor(app, element) {
    Object.assign(this, { app, element, view: new View(), ratio: 1, stale: new Set(), frame: 0 });
    this.contexts = Object.fromEntries(LAYERS.map((name) => [name, element.querySelector(`#${name}-layer`).getContext("2d")]));
    this.area = canvasOf(1, 1);  // the mask as the view shows it
    new ResizeObserver(() => this.resize()).observe(element);
    this.resize();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    this.ratio = window.devicePixelRatio || 1;
    for (const { canvas } of Object.values(this.contexts)) {
      Object.assign(canvas, { width: Math.round(width * this.ratio), height: Math.round(height * this.ratio) });
    }
    Object.assign(this.area, { width: this.contexts.mask.canvas.width, height: this.contexts.mask.canvas.height });
    this.view.resize(width, height);
    this.draw();  // at once: a resized canvas is empty
  }

  /** Asks for layers to be drawn in the next frame; all of them if none is named. */
  refresh(...names) {
    (names.length ? names : LAYERS).forEach((name) => this.stale.add(name));
    this.frame ||= requestAnimationFrame(() => {
      this.draw(...this.stale);
    });
  }

  draw(...names) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    for (const name of names.length ? names : LAYERS) {
      const context = this.contexts[name];
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, context.canvas.width, context.canvas.height);
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      this[`_${name}`](context);
      this.stale.delete(name);
    }
  }

  /** Draws in pixels of the picture instead of CSS pixels. */
  _inPicture(context) {
    const factor = this.ratio * this.view.zoom;
    context.setTransform(factor, 0, 0, factor, this.ratio * this.view.left, this.ratio * this.view.top);
    context.imageSmoothingEnabled = factor < SMOOTH;
  }

  _picture(context) {
    const { bitmap, current } = this.app;
    if (!current || !bitmap) return;
    this._inPicture(context);
    context.imageSmoothingQuality = "medium";
    context.drawImage(bitmap, 0, 0, current.width, current.height);
  }

  _mask(context) {
    const { mask, isHidden, isDimmed, step } = this.app;
    if (!mask || isHidden) return;
    const area = this.area.getContext("2d");
    area.setTransform(1, 0, 0, 1, 0, 0);
    area.clearRect(0, 0, this.area.width, this.area.height);
    this._inPicture(area);
    area.drawImage(mask.canvas, 0, 0);
    if (isDimmed) this._dim(context);
    drawRing(context, this.area, 1.25 * this.ratio, isDimmed ? 0 : step === "mask" ? 0.4 : 0.12);
  }

  /** Darkens what is outside the mask. */
  _dim(context) {
    context.save();
    context.fillStyle = "rgba(0, 0, 0, 0.72)";
    context.fillRect(0, 0, this.view.width, this.view.height);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "destination-out";
    context.drawImage(this.area, 0, 0);
    context.restore();
  }

  _overlay(context) {
    const { app } = this;
    if (!app.draft) return;
    if (app.step === "pose" && !app.isHidden) this._pose(context);
    if (app.step === "mask") this._drawing(context);
  }

  _pose(context) {
    const { posing, draft, current, shape, boxSide: side } = this.app;
    const pose = placed(posing.pose, draft.frame);
    const toStage = (points) => project(pose, current, points).map(([x, y, depth]) => [...this.view.toStage(x, y), depth]);
    if (shape) shape.drawOutline(context, toStage, side, this.ratio);
    else drawBox(context, pose, side, toStage, { isProposal: !posing.isConfirmed });
  }

  _drawing(context) {
    const { drawing } = this.app;
    const { view } = this;
    const cursor = view.toStage(...drawing.cursor);
    const color = drawing.adds ? ADD : REMOVE;
    if (drawing.box) this._box(context, drawing.box.map(([x, y]) => view.toStage(x, y)));
    if (drawing.corners.length > 0) this._polygon(context, drawing.corners.map(([x, y]) => view.toStage(x, y)), cursor, color);
    if (!drawing.isOver) return;
    if (drawing.showsBrush) outlined(context, color, () => context.arc(...cursor, drawing.radius * view.zoom, 0, 2 * Math.PI));
    if (!drawing.showsBrush || drawing.isByKeys) this._cross(context, cursor, color);
  }

  _box(context, [[x0, y0], [x1, y1]]) {
    context.fillStyle = "rgba(0, 0, 0, 0.45)";
    context.beginPath();
    context.rect(0, 0, this.view.width, this.view.height);
    context.rect(x0, y0, x1 - x0, y1 - y0);
    context.fill("evenodd");
    outlined(context, ADD, () => context.rect(x0, y0, x1 - x0, y1 - y0));
  }

  _polygon(context, corners, cursor, color) {
    context.beginPath();
    [...corners, cursor].forEach(([x, y]) => context.lineTo(x, y));
    context.globalAlpha = 0.18;
    context.fillStyle = color;
    context.fill();
    context.globalAlpha = 1;
    outlined(context, color, () => [...corners, cursor].forEach(([x, y]) => context.lineTo(x, y)));
    corners.forEach(([x, y], i) => {
      context.beginPath();
      context.arc(x, y, i === 0 ? 5 : 3, 0, 2 * Math.PI);
      context.fillStyle = i === 0 ? "#ffffff" : color;
      context.fill();
    });
  }

  _cross(context, [x, y], color) {
    outlined(context, color, () => {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 14 * dx, y + 14 * dy);
      }
    });
  }
}

function outlined(context, color, path) {
  for (const [style, width] of [["rgba(8, 10, 12, 0.65)", 3.5], [color, 1.5]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    path();
    context.stroke();
  }
}
