// The pose of the open picture: answers locally at once, and sends one edit per gesture.

import { PLAIN, describe, moved, normalized, placed, scaled, turned, unplaced } from "./pose.js";

const GESTURE = 400;  // milliseconds: key presses and turns of the wheel within are one step of undo
const SPEED = 0.35;  // degrees per CSS pixel

export class Posing {
  constructor(app) {
    Object.assign(this, { app, pose: PLAIN, isConfirmed: false, isChanged: false, timer: 0, drag: null });
    this.lastPose = null;  // of another picture, for copying
  }

  /** Takes over what the server knows, unless something newer is on the way to it. */
  show() {
    const { draft, current, outbox } = this.app;
    if (this.isChanged || this.drag) return;
    const pending = outbox.pending(current.id).filter((edit) => ["pose", "undo", "redo"].includes(edit.do));
    if (pending.at(-1)?.do === "pose") [this.pose, this.isConfirmed] = [pending.at(-1).pose, true];
    else if (pending.length === 0) {
      this.pose = normalized(draft.pose ?? draft.proposal ?? PLAIN);
      this.isConfirmed = draft.pose !== null;
    }
    this.app.posed();
  }

  /** Changes the pose on the screen; the edit follows at the end of the gesture. */
  change(pose, { isHeld = false } = {}) {
    this.pose = pose;
    this.isChanged = this.isConfirmed = true;
    clearTimeout(this.timer);
    if (!isHeld) this.timer = setTimeout(() => this.flush(), GESTURE);
    this.app.posed();
  }

  turn(angles) {
    this.change(turned(this.pose, angles));
  }

  set(angles) {
    this.change(normalized({ ...this.pose, ...angles }));
  }

  scale(factor) {
    this.change(scaled(this.pose, this.app.draft.frame, factor));
  }

  move(dx, dy) {
    this.change(moved(this.pose, this.app.draft.frame, dx, dy, this.app.current));
  }

  unplace() {
    this.change(unplaced(this.pose));
  }

  /** Sends the change that is on the screen. */
  flush() {
    clearTimeout(this.timer);
    if (this.drag) this.release();
    if (!this.isChanged) return;
    this.isChanged = false;
    this.app.edit({ do: "pose", pose: this.pose });
  }

  /** Flushes, and confirms a pose that was only proposed. */
  confirm() {
    this.isChanged ||= !this.isConfirmed;
    this.isConfirmed = true;
    this.flush();
    this.lastPose = { pose: unplaced(this.pose), id: this.app.current.id };
  }

  copyLast() {
    const { draft, current } = this.app;
    const last = this.lastPose && this.lastPose.id !== current.id ? this.lastPose.pose : draft.proposal;
    if (last) this.change(normalized({ ...this.pose, azimuth: last.azimuth, elevation: last.elevation, theta: last.theta }));
    else this.app.say("No other picture has a pose yet.");
  }

  grab(kind, x, y) {
    this.flush();
    this.drag = { kind, x, y, pose: this.pose, start: this.pose, wasConfirmed: this.isConfirmed };
  }

  /** Follows the pointer at (x, y) of the stage. */
  follow(x, y) {
    const { drag, app } = this;
    const [dx, dy] = [x - drag.x, y - drag.y];
    if (drag.kind === "turn") drag.pose = turned(drag.pose, { azimuth: SPEED * dx, elevation: SPEED * dy });
    if (drag.kind === "roll") drag.pose = turned(drag.pose, { theta: this._angle(drag.x, drag.y) - this._angle(x, y) });
    if (drag.kind === "move") {
      drag.pose = moved(drag.pose, app.draft.frame, dx / app.stage.view.zoom, dy / app.stage.view.zoom, app.current);
    }
    Object.assign(drag, { x, y });
    this.change(drag.pose, { isHeld: true });
  }

  /** Degrees, clockwise on the screen, of a point of the stage about the world's origin. */
  _angle(x, y) {
    const { draft, current, stage } = this.app;
    const origin = placed(this.pose, draft.frame);
    const [left, top] = stage.view.toStage((origin.x + 1) * current.width / 2, (origin.y + 1) * current.height / 2);
    return Math.atan2(y - top, x - left) * 180 / Math.PI;
  }

  release() {
    this.drag = null;
    this.flush();
  }

  cancel() {
    if (!this.drag) return false;
    const { start, wasConfirmed } = this.drag;
    Object.assign(this, { drag: null, pose: start, isConfirmed: wasConfirmed, isChanged: false });
    this.app.posed();
    return true;
  }

  get words() {
    return describe(this.pose);
  }
}
