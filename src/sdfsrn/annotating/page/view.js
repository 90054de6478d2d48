// The part of the picture that is seen: from pixels of the picture to CSS pixels of the stage, and back.

const FARTHEST = 0.5, NEAREST = 40;  // zoom: of the whole picture's, and in CSS pixels per pixel
const EDGE = 16;  // CSS pixels around the whole picture

export class View {
  constructor() {
    this.width = this.height = 1;  // of the stage
    this.picture = { width: 1, height: 1 };
    this.whole();
  }

  resize(width, height) {
    const middle = this.toPicture(this.width / 2, this.height / 2);
    const wasWhole = this.isWhole;
    Object.assign(this, { width, height });
    if (wasWhole) this.whole();
    else this._centre(middle);
  }

  show(picture) {
    this.picture = { width: picture.width, height: picture.height };
    this.whole();
  }

  get _fit() {
    const { width, height } = this.picture;
    return Math.max(1e-3, Math.min((this.width - 2 * EDGE) / width, (this.height - 2 * EDGE) / height));
  }

  whole() {
    this.zoom = this._fit;
    this._centre([this.picture.width / 2, this.picture.height / 2]);
    this.isWhole = true;
  }

  /** Shows the window of `frame`: twice its unit wide and high. */
  toObject(frame) {
    const { width, height } = this.picture;
    const side = Math.max(8, 1.1 * frame.scale * width);
    this.zoom = Math.min(NEAREST, Math.min(this.width, this.height) / side);
    this._centre([(frame.x + 1) * width / 2, (frame.y + 1) * height / 2]);
    this.isWhole = false;
  }

  /** Zooms by `factor` about the stage's point (x, y). */
  zoomAt(x, y, factor) {
    const zoom = Math.min(NEAREST, Math.max(FARTHEST * this._fit, this.zoom * factor));
    this.left = x - (x - this.left) * zoom / this.zoom;
    this.top = y - (y - this.top) * zoom / this.zoom;
    this.zoom = zoom;
    this.isWhole = false;
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.isWhole = false;
  }

  _centre([x, y]) {
    this.left = this.width / 2 - x * this.zoom;
    this.top = this.height / 2 - y * this.zoom;
  }

  toPicture(x, y) {
    return [(x - this.left) / this.zoom, (y - this.top) / this.zoom];
  }

  toStage(x, y) {
    return [this.left + x * this.zoom, this.top + y * this.zoom];
  }

  /** Keeps a point of the picture on the stage: pans if it is outside. */
  reveal([x, y]) {
    const [left, top] = this.toStage(x, y);
    const dx = Math.max(EDGE - left, 0) + Math.min(this.width - EDGE - left, 0);
    const dy = Math.max(EDGE - top, 0) + Math.min(this.height - EDGE - top, 0);
    if (dx === 0 && dy === 0) return false;
    this.left += dx;
    this.top += dy;
    return true;
  }
}
