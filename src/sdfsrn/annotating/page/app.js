// The open picture, and the way from one to the next: what the server knows, and what is on its way to it.

import { Drawing } from "./drawing.js";
import { Shape } from "./figure.js";
import { Mask } from "./mask.js";
import { boxSide, placed } from "./pose.js";
import { Posing } from "./posing.js";
import { Stage } from "./stage.js";

const IDLE = 10000;  // milliseconds without any input that still count as work
const EARLY = 1000;  // milliseconds that a key waits for a picture that is being opened
const KEEP_MASK = new Set(["pose", "flag"]);  // edits that leave the mask as it is
const AGAIN = 1500;  // milliseconds until a picture that did not arrive is asked for again

export class App {
  /** `shown(part)` is called when "pictures", "picture", "tools" or "pose" must be shown anew; `say(words)` tells something. */
  constructor({ server, outbox, pictures, element, shown, say }) {
    Object.assign(this, { server, outbox, pictures, shown, say });
    Object.assign(this, {
      all: [], current: null, draft: null, mask: null, bitmap: null, shape: null, iou: null, step: "mask",
      boxSide: 1, isHidden: false, isDimmed: false, canCut: false, hasModel: false, isZoomed: false, eta: null, answers: 0, active: 0, lastInput: 0,
      maskShown: undefined, early: [],
    });
    this.drawing = new Drawing(this);
    this.posing = new Posing(this);
    this.stage = new Stage(this, element);
  }

  start(state) {
    Object.assign(this, { all: state.pictures, canCut: state.grabcut, hasModel: state.model, eta: state.eta_seconds });
    this.shown("pictures");
    this.open(this.byId(state.first) ? state.first : this.all[0].id);
  }

  byId(id) {
    return this.all.find((picture) => picture.id === id);
  }

  get isCutting() {
    return this.outbox.pending(this.current?.id).some((edit) => edit.do === "box" || edit.grabcut);
  }

  /** Keys wait for the picture that is being opened; later ones wait behind them. */
  get hasEarly() {
    return this.early.some(isFresh);
  }

  /** Counts the time since the last input as work, up to `IDLE`. */
  notice() {
    const now = performance.now();
    this.active += Math.min(now - this.lastInput, IDLE);
    this.lastInput = now;
  }

  open(id, step = null) {
    this.leave();
    const picture = this.byId(id);
    const hasMask = ["mask", "done"].includes(picture.state);
    Object.assign(this, { current: picture, draft: null, mask: null, maskShown: undefined, shape: null, iou: null });
    Object.assign(this, { early: [], active: 0, lastInput: performance.now() });
    this.step = step ?? (picture.state === "mask" ? "pose" : "mask");
    this.bitmap = this.pictures.peek(id);
    this.drawing.begin(picture, hasMask, this.canCut);
    this.stage.view.show(picture);
    this.isZoomed = false;
    this.shown("picture");
    this.refresh();
    this._load(picture);
  }

  /** Ends every gesture; its edits are sent. */
  leave() {
    if (!this.current) return;
    if (this.drawing.stroke || this.drawing.box) this.drawing.lift();
    this.drawing.cancel();
    this.posing.flush();
  }

  async _load(picture) {
    const isOpen = () => this.current === picture;
    const image = this.pictures.image(picture.id).then((bitmap) => {
      if (!isOpen()) return;
      this.bitmap = bitmap;
      this.stage.refresh("picture");
      this.shown("tools");
    });
    try {
      const { answers } = this;
      const draft = await this.server.json(`/api/pictures/${picture.id}`);
      if (isOpen() && (answers === this.answers || !this.draft)) await this._take(draft);
      await image;
    } catch (error) {
      if (!isOpen()) return;
      if (!error.isFinal) setTimeout(() => isOpen() && this._load(picture), AGAIN);
      this.say(`${picture.name}: ${error.message}`);
      return;
    }
    if (isOpen()) this._lookAhead(picture);
  }

  _lookAhead(picture) {
    const at = this.all.indexOf(picture);
    const next = this.all[this._unfinishedAfter(at)];
    for (const near of new Set([this.all[at + 1], next, this.all[at - 1]])) {
      if (near && near !== picture) this.pictures.image(near.id).catch(() => {});
    }
    if (this.hasModel) this._loadShape(picture);
  }

  async _loadShape(picture) {
    const shape = await this.server.json(`/api/pictures/${picture.id}/shape`).catch(() => null);
    if (!shape || this.current !== picture) return;
    this.shape = new Shape(shape);
    this.posed();
  }

  /** An edit of a picture was answered with its draft. */
  answered({ id }, draft) {
    this.answers += 1;
    this._absorb(this.byId(id), draft);
    this.shown("pictures");
    if (this.current.id === id) this._take(draft);
  }

  /** Takes over a draft's summary, and the flags that are on their way to the server. */
  _absorb(picture, draft) {
    Object.assign(picture, summaryOf(draft));
    this.outbox.pending(picture.id).filter((edit) => edit.do === "flag").forEach((edit) => raise(picture, edit));
  }

  async _take(draft) {
    const isFirst = !this.draft;
    if (isFirst) this.boxSide = boxSide(draft);
    this.draft = draft;
    this._absorb(this.current, draft);
    this.posing.show();
    this.shown("picture");
    if (isFirst) this.early.splice(0).filter(isFresh).forEach(({ run }) => run());
    const isWaiting = this.mask && this.outbox.pending(this.current.id).some((edit) => !KEEP_MASK.has(edit.do));
    if (!isWaiting && this.maskShown !== draft.mask) await this.reloadMask();
  }

  /** Shows the server's mask, with the edits on their way to it drawn over. */
  async reloadMask() {
    const { current, draft } = this;
    const fresh = new Mask(current);
    if (draft.mask) {
      const bitmap = await this.pictures.mask(current.id, draft.mask).catch(() => null);
      if (this.current !== current || this.draft.mask !== draft.mask) return;
      if (bitmap) fresh.load(bitmap);
    }
    this.outbox.pending(current.id).forEach((edit) => fresh.repeat(edit));
    const { stroke, radius } = this.drawing;
    if (stroke) fresh.stroke(stroke.points, radius, stroke.add);
    Object.assign(this, { mask: fresh, maskShown: draft.mask });
    this.posed();
    this.refresh("mask", "overlay");
  }

  /** An edit was refused: shows again what the server has. */
  refused({ id }) {
    if (this.current.id !== id) return;
    this.maskShown = undefined;
    this._load(this.current);
  }

  edit(edit) {
    this.notice();
    const seconds = Math.round(this.active / 10) / 100;
    this.active = 0;
    if (!KEEP_MASK.has(edit.do)) this.maskShown = undefined;  // whatever the answer is, it is shown
    this.outbox.add(this.current, { ...edit, seconds });
    this.shown("picture");
  }

  /** The pose on the screen has changed. */
  posed() {
    const { draft, shape, mask, current, posing } = this;
    if (!draft) return;
    this.iou = shape && mask ? shape.iou(placed(posing.pose, draft.frame), draft.frame, current, mask.canvas) : null;
    this.stage.refresh("overlay");
    this.shown("pose");
  }

  /** Shows the tools anew, and layers of the stage; all of them if none is named. */
  refresh(...layers) {
    this.stage.refresh(...layers);
    this.shown("tools");
  }

  setStep(step) {
    this.leave();
    this.step = step;
    this.refresh("mask", "overlay");
    this.shown("pose");
  }

  /** From mask to pose, and from there to the next unfinished picture; from the last to the review. */
  onward() {
    if (!this.draft) return;
    if (this.step === "mask") {
      this.setStep("pose");
      return;
    }
    this.posing.confirm();
    const hasMask = this.draft.mask || this.outbox.pending(this.current.id).some((edit) => edit.do === "box" || edit.add);
    if (!hasMask) this.say(`${this.current.name} has no mask yet: it does not count as done.`);
    this.toUnfinished();
  }

  toUnfinished() {
    const next = this._unfinishedAfter(this.all.indexOf(this.current));
    if (next === -1) this.shown("end");
    else this.open(this.all[next].id);
  }

  _unfinishedAfter(at) {
    const order = [...this.all.keys()].map((i) => (at + 1 + i) % this.all.length).slice(0, -1);
    const isPosed = ({ id }) => this.outbox.pending(id).some((edit) => edit.do === "pose");  // done in a moment
    return order.find((i) => !["done", "skipped"].includes(this.all[i].state) && !isPosed(this.all[i])) ?? -1;
  }

  move(by) {
    const at = this.all.indexOf(this.current) + by;
    if (at >= 0 && at < this.all.length) this.open(this.all[at].id);
  }

  flag(name) {
    const value = name === "skipped" ? this.current.state !== "skipped" : !this.current[name];
    raise(this.current, { name, value });
    this.edit({ do: "flag", name, value });
    if (name === "skipped" && value) this.toUnfinished();
  }

  undo() {
    if (this.drawing.uncorner() || this.drawing.cancel() || this.posing.cancel()) return;
    this.posing.flush();
    this.edit({ do: "undo" });
  }

  redo() {
    this.posing.flush();
    this.edit({ do: "redo" });
  }

  zoomToObject() {
    this.isZoomed = !this.isZoomed && this.draft !== null;
    if (this.isZoomed) this.stage.view.toObject(this.draft.frame);
    else this.stage.view.whole();
    this.refresh();
  }

  hide() {
    this.isHidden = !this.isHidden;
    this.refresh("mask", "overlay");
  }

  /** Shows the mask by what is dark outside, where green inside is hard to see: on a green bird. */
  dim() {
    this.isDimmed = !this.isDimmed;
    this.refresh("mask");
  }
}

function isFresh({ time }) {
  return performance.now() - time < EARLY;
}

function raise(picture, { name, value }) {
  if (name !== "skipped") picture[name] = value;
  else if (value) picture.state = "skipped";
}

const SUMMARY = ["state", "unsure", "cut_off", "azimuth", "seconds", "mask", "iou"];

function summaryOf(draft) {
  return Object.fromEntries(SUMMARY.filter((name) => name in draft).map((name) => [name, draft[name]]));
}
