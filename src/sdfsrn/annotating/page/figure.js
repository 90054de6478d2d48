// What is drawn over the picture for a pose: the unit box with its orange front and axes, or the outline of a predicted shape.

import { canvasOf } from "./mask.js";
import { AXES, FRONT_EDGES, FRONT_FACE, SIDES, project, rotation } from "./projection.js";

const ORANGE = "#ff9a1f", PALE = "#f2f4f5", HALO = "rgba(8, 10, 12, 0.6)", CYAN = "#4ddcff";
const COLORS = { x: "#ff6b62", y: "#57e077", z: "#7da2ff" };
const AXIS = 0.62, NOSE = 0.64;  // ends of the axes and of the front's arrow, in sides of the box
const COMPARED = 192;  // pixels, of the window that silhouettes are compared in
const ring = canvasOf(1, 1).getContext("2d");

function line(context, points, color, width, dashes = []) {
  const draw = (style, wide) => {
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.beginPath();
    points.forEach(([x, y]) => context.lineTo(x, y));
    context.stroke();
  };
  context.setLineDash(dashes);
  context.lineCap = context.lineJoin = "round";
  draw(HALO, width + 2.5);
  draw(color, width);
  context.setLineDash([]);
}

/** Writes at a point, or at the border nearest to it. */
function letters(context, text, at, color, size) {
  const { canvas } = context;
  const ratio = context.getTransform().a;
  const margin = 0.35 * size * text.length + 6;
  const x = Math.min(canvas.width / ratio - margin, Math.max(margin, at[0]));
  const y = Math.min(canvas.height / ratio - size, Math.max(size, at[1]));
  context.font = `650 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(8, 10, 12, 0.75)";
  context.strokeText(text, x, y);
  context.fillStyle = color;
  context.fillText(text, x, y);
}

/** Draws the axes of a box of `side`, and their letters. `toStage` takes world points to points of the canvas. */
export function drawAxes(context, toStage, side) {
  const [origin] = toStage([[0, 0, 0]]);
  const ends = Object.entries(AXES).map(([name, axis]) => (
    [name, ...toStage([AXIS, 1.13 * AXIS].map((length) => axis.map((value) => length * side * value)))]
  ));
  for (const [name, tip] of ends.sort((one, two) => two[1][2] - one[1][2])) line(context, [origin, tip], COLORS[name], 1.75);
  for (const [name, , end] of ends) letters(context, name, end, COLORS[name], 14);
}

/** Draws an arrow out of the front's middle: seen from the side, the front is only a line. */
function drawNose(context, toStage, isSmall) {
  const [foot, tip] = toStage([[0, 0, -0.5], [0, 0, -NOSE]]);
  const [dx, dy] = [tip[0] - foot[0], tip[1] - foot[1]];
  const length = Math.hypot(dx, dy);
  if (length < 3) return tip;  // it points at the viewer, or away
  const head = Math.min(length, isSmall ? 6 : 12) / length;
  const barb = (side) => [tip[0] - head * (dx - 0.6 * side * dy), tip[1] - head * (dy + 0.6 * side * dx)];
  line(context, [foot, tip], ORANGE, isSmall ? 2 : 3);
  line(context, [barb(1), tip, barb(-1)], ORANGE, isSmall ? 2 : 3);
  return [tip[0] + 24 * dx / length, tip[1] + 14 * dy / length];
}

/** Draws a box of `side` world units. Dashed while nobody has confirmed the pose. */
export function drawBox(context, pose, side, worldToStage, { isProposal = false, isSmall = false } = {}) {
  const toStage = (points) => worldToStage(points.map((point) => point.map((value) => side * value)));
  const isFacing = rotation(pose)[2][2] > 1e-9;  // the front is on the camera's side
  const thin = isSmall ? 1 : 1.5;
  const dashes = isProposal ? [7, 5] : [];
  const farthest = Math.max(...SIDES.flat().map((corner) => toStage([corner])[0][2]));
  context.beginPath();
  toStage(FRONT_FACE).forEach(([x, y]) => context.lineTo(x, y));
  context.fillStyle = isFacing ? "rgba(255, 154, 31, 0.2)" : "rgba(255, 154, 31, 0.06)";
  context.fill();
  for (const edge of SIDES) {
    const points = toStage(edge);
    const isHidden = points.some((point) => point[2] > farthest - 1e-9);
    context.globalAlpha = isHidden ? 0.45 : 1;
    line(context, points, PALE, thin, dashes);
  }
  context.globalAlpha = isFacing ? 1 : 0.7;
  for (const edge of FRONT_EDGES) line(context, toStage(edge), ORANGE, isSmall ? 2 : 3, dashes);
  const label = drawNose(context, toStage, isSmall);
  context.globalAlpha = 1;
  if (isSmall) return;
  drawAxes(context, worldToStage, side);
  letters(context, "front", label, ORANGE, 13);
}

function fillTriangles(context, points, faces) {
  context.beginPath();
  for (const face of faces) {
    const [a, b, c] = face.map((index) => points[index]);
    const isClockwise = (b[0] - a[0]) * (c[1] - a[1]) < (b[1] - a[1]) * (c[0] - a[0]);
    const corners = isClockwise ? [a, c, b] : [a, b, c];  // one sense of rotation, so that overlaps do not cancel
    context.moveTo(...corners[0].slice(0, 2));
    context.lineTo(...corners[1].slice(0, 2));
    context.lineTo(...corners[2].slice(0, 2));
    context.closePath();
  }
  context.fill();
}

/** A predicted shape: `vertices` in world units and `faces`. */
export class Shape {
  constructor({ vertices, faces }) {
    Object.assign(this, { vertices, faces });
    this.area = canvasOf(1, 1);
    this.small = canvasOf(COMPARED, COMPARED).getContext("2d", { willReadFrequently: true });
  }

  /** Draws the silhouette's outline on a canvas of `ratio` device pixels per unit. */
  drawOutline(context, toStage, side, ratio) {
    const { width, height } = context.canvas;
    if (this.area.width !== width || this.area.height !== height) Object.assign(this.area, { width, height });
    const area = this.area.getContext("2d");
    area.setTransform(1, 0, 0, 1, 0, 0);
    area.globalCompositeOperation = "copy";
    area.fillStyle = CYAN;
    area.setTransform(ratio, 0, 0, ratio, 0, 0);
    fillTriangles(area, toStage(this.vertices), this.faces);
    drawRing(context, this.area, 1.75 * ratio, 0.1);
    drawAxes(context, toStage, side);
    const nose = drawNose(context, (points) => toStage(points.map((point) => point.map((value) => side * value))), false);
    letters(context, "front", nose, ORANGE, 13);
  }

  /** Intersection over union of the shape's silhouette and the mask, in a window of four units of `frame`. */
  iou(pose, frame, size, mask) {
    const factor = COMPARED / (2 * frame.scale * size.width);
    const [x, y] = [(frame.x + 1) * size.width / 2, (frame.y + 1) * size.height / 2];
    const context = this.small;
    const alphas = (draw) => {
      context.setTransform(factor, 0, 0, factor, COMPARED / 2 - factor * x, COMPARED / 2 - factor * y);
      context.globalCompositeOperation = "copy";
      draw();
      return context.getImageData(0, 0, COMPARED, COMPARED).data;
    };
    const one = alphas(() => context.drawImage(mask, 0, 0));
    const two = alphas(() => fillTriangles(context, project(pose, size, this.vertices), this.faces));
    let both = 0, either = 0;
    for (let i = 3; i < one.length; i += 4) {
      both += one[i] > 127 && two[i] > 127;
      either += one[i] > 127 || two[i] > 127;
    }
    return either ? both / either : 0;
  }
}

/** Draws a canvas as a bright line around its opaque part, and that part at `opacity`. `width` in device pixels. */
export function drawRing(context, canvas, width, opacity) {
  Object.assign(ring.canvas, { width: canvas.width, height: canvas.height });  // and clears it
  for (const [x, y] of [[1, 1], [1, -1], [-1, 1], [-1, -1]]) ring.drawImage(canvas, 0.8 * width * x, 0.8 * width * y);
  ring.globalCompositeOperation = "destination-out";
  ring.drawImage(canvas, 0, 0);
  ring.globalCompositeOperation = "destination-over";
  ring.globalAlpha = opacity;
  ring.drawImage(canvas, 0, 0);
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(ring.canvas, 0, 0);
  context.restore();
}
