// A mask of the shown picture's size: green where the object is, painted locally at once and replaced by the server's answer.

export const GREEN = [46, 213, 115];

export function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

export class Mask {
  constructor({ width, height }) {
    this.canvas = canvasOf(width, height);
    this.context = this.canvas.getContext("2d");
    this.context.lineCap = this.context.lineJoin = "round";
    this.context.fillStyle = this.context.strokeStyle = `rgb(${GREEN})`;
  }

  /** Takes over a gray picture: its brightness is the mask's opacity. */
  load(bitmap) {
    const { width, height } = this.canvas;
    this._draw("copy", () => this.context.drawImage(bitmap, 0, 0, width, height));
    const pixels = this.context.getImageData(0, 0, width, height);
    const words = new Uint32Array(pixels.data.buffer);  // little-endian: alpha, blue, green, red
    const color = (GREEN[2] << 16) | (GREEN[1] << 8) | GREEN[0];
    for (let i = 0; i < words.length; i += 1) words[i] = ((words[i] & 255) << 24) | color;
    this.context.putImageData(pixels, 0, 0);
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  stroke(points, radius, add) {
    this._draw(add ? "source-over" : "destination-out", () => {
      const context = this.context;
      context.lineWidth = 2 * radius;
      context.beginPath();
      context.moveTo(...points[0]);
      points.forEach(([x, y]) => context.lineTo(x, y));
      context.stroke();
      context.beginPath();
      context.arc(...points[0], radius, 0, 2 * Math.PI);  // a line of no length is not drawn
      context.fill();
    });
  }

  polygon(points, add) {
    this._draw(add ? "source-over" : "destination-out", () => {
      this.context.beginPath();
      points.forEach(([x, y]) => this.context.lineTo(x, y));
      this.context.fill();
    });
  }

  /** Repeats an edit as far as it is known without the server. */
  repeat(edit) {
    if (edit.do === "stroke") this.stroke(edit.points, edit.radius, edit.add);
    if (edit.do === "polygon") this.polygon(edit.points, edit.add);
    if (edit.do === "clear") this.clear();
  }

  _draw(operation, drawing) {
    this.context.save();
    this.context.globalCompositeOperation = operation;
    drawing();
    this.context.restore();
  }
}
