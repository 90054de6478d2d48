// Tools of the mask: box, brush and polygon, by pointer or by a cursor that keys move.

const RADII = [1, 400], STEP = 1.25;  // of the brush, in pixels of the picture
const CLOSE = 9;  // CSS pixels from a polygon's first corner that close it
const round = (value) => Math.round(value * 10) / 10;

export class Drawing {
  constructor(app) {
    Object.assign(this, {
      app, tool: "box", erases: false, cutsAgain: true, radius: 20, cursor: [0, 0], isOver: false, isByKeys: false,
      box: null, corners: [], stroke: null, isReversed: false,
    });
  }

  /** Whether the next stroke adds. */
  get adds() {
    return this.stroke ? this.stroke.add : this.erases === this.isReversed;
  }

  get showsBrush() {
    return this.tool === "brush" || this.stroke !== null;
  }

  get isActive() {
    return this.box !== null || this.stroke !== null || this.corners.length > 0;
  }

  /** Prepares for another picture. `hasMask`: there is something to correct. */
  begin({ width, height }, hasMask, canCut) {
    Object.assign(this, { box: null, corners: [], stroke: null, cursor: [width / 2, height / 2], isByKeys: false });
    this.radius = Math.max(2, Math.round(Math.max(width, height) / 50));
    this.tool = hasMask ? "brush" : canCut ? "box" : "polygon";
  }

  choose(tool) {
    this.cancel();
    this.tool = tool;
    this.app.refresh("overlay");
  }

  resize(direction) {
    const radius = this.radius * STEP ** direction;
    this.radius = Math.min(RADII[1], Math.max(RADII[0], direction > 0 ? Math.ceil(radius) : Math.floor(radius)));
    this.app.refresh("overlay");
  }

  point(cursor, { isByKeys = false } = {}) {
    Object.assign(this, { cursor, isByKeys, isOver: true });
    if (this.box) this.box[1] = this._inside(cursor);
    if (this.stroke) this._extend(cursor);
    this.app.stage.refresh("overlay");
  }

  /** Puts the tool down at the cursor. `isReversed`: adding becomes removing. */
  press(isReversed) {
    if (this.stroke || this.box) this.lift();
    if (this.corners.length === 0) this.isReversed = isReversed;  // a polygon goes on as it began
    const at = this.cursor.map(round);
    if (this.tool === "polygon") this._corner(at);
    else if (this.tool === "box" && this.adds) this.box = [this._inside(at), this._inside(at)];
    else {
      this.stroke = { add: this.adds, points: [at] };
      this.app.mask.stroke([at], this.radius, this.stroke.add);
      this.app.stage.refresh("mask", "overlay");
    }
  }

  /** Lifts the tool: the gesture's edit is sent. */
  lift() {
    const { box, stroke, app } = this;
    Object.assign(this, { box: null, stroke: null, isReversed: this.corners.length > 0 && this.isReversed });
    if (stroke) {
      const grabcut = this.cutsAgain && app.canCut;
      app.edit({ do: "stroke", add: stroke.add, radius: this.radius, points: stroke.points, grabcut });
    }
    if (box) this._cut(box);
    app.stage.refresh("overlay");
  }

  /** D of the keyboard: down, and at the next press up. */
  tap() {
    if (this.tool === "polygon") this._corner(this.cursor.map(round));
    else if (this.box || this.stroke) this.lift();
    else this.press(false);
    this.app.refresh("overlay");
  }

  /** Ends what is being drawn without an edit. Returns whether there was anything. */
  cancel() {
    const { isActive, app } = this;
    const wasStroke = this.stroke !== null;
    Object.assign(this, { box: null, corners: [], stroke: null, isReversed: false });
    if (wasStroke) app.reloadMask();
    if (isActive) app.refresh("overlay");
    return isActive;
  }

  /** Takes back the last corner. Returns whether there was one. */
  uncorner() {
    if (this.corners.length === 0) return false;
    this.corners.pop();
    this.isReversed &&= this.corners.length > 0;
    this.app.refresh("overlay");
    return true;
  }

  /** Closes the polygon. Returns whether there was one. */
  close() {
    if (this.corners.length === 0) return false;
    const { corners: points, adds: add, app } = this;
    Object.assign(this, { corners: [], isReversed: false });
    if (points.length > 2) {
      app.mask.polygon(points, add);
      app.edit({ do: "polygon", add, points });
    }
    app.refresh("mask", "overlay");
    return true;
  }

  _corner(at) {
    const { view } = this.app.stage;
    const near = (one, two) => Math.hypot(one[0] - two[0], one[1] - two[1]) * view.zoom;
    const { corners } = this;
    const isDouble = corners.length > 0 && near(corners.at(-1), at) < 1;
    if (corners.length > 2 && (isDouble || near(corners[0], at) < CLOSE)) this.close();
    else if (!isDouble) corners.push(at);
    this.app.stage.refresh("overlay");
  }

  _extend(cursor) {
    const at = cursor.map(round);
    const last = this.stroke.points.at(-1);
    if (Math.hypot(at[0] - last[0], at[1] - last[1]) < Math.min(1, this.radius / 4)) return;
    this.stroke.points.push(at);
    this.app.mask.stroke([last, at], this.radius, this.stroke.add);
    this.app.stage.refresh("mask");
  }

  _cut([[x0, y0], [x1, y1]]) {
    const box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)].map(round);
    if (box[2] - box[0] < 3 || box[3] - box[1] < 3) return;
    this.app.edit({ do: "box", box });
    this.tool = "brush";  // what the box got wrong is corrected by strokes
    this.app.refresh("overlay");
  }

  _inside([x, y]) {
    const { width, height } = this.app.current;
    return [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
  }
}
