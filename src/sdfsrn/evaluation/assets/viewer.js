"use strict";
// Meshes and points in WebGL 2. `Pane` draws one shape on one canvas; panes that share an `Orbit` turn together.

const VERTEX = `#version 300 es
in vec3 place, normal, color;
uniform vec3 low, extent, center;
uniform mat3 turn;
uniform vec2 focal;
uniform float distance, radius, pixels;
out vec3 at, facing, paint;
void main() {
  at = turn * (low + extent * place - center) - vec3(0, 0, distance);
  facing = turn * normal;
  paint = color;
  float depth = -at.z, near = distance - 1.1 * radius, far = distance + 1.1 * radius;
  gl_Position = vec4(focal * at.xy, ((far + near) * depth - 2.0 * far * near) / (far - near), depth);
  gl_PointSize = max(pixels / depth, 1.5);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 at, facing, paint;
uniform int kind;  // 0: points, 1: flat faces, 2: smooth faces
uniform float distance, radius;
uniform vec3 near, far;
out vec4 color;
void main() {
  vec3 normal = kind == 2 && dot(facing, facing) > 0.0 ? facing : cross(dFdx(at), dFdy(at));
  vec3 base = paint;
  if (kind == 0) {
    vec2 disc = 2.0 * gl_PointCoord - 1.0;
    if (dot(disc, disc) > 1.0) discard;
    normal = vec3(disc.x, -disc.y, sqrt(1.0 - dot(disc, disc)));
    base = mix(near, far, clamp(0.5 - (at.z + distance) / (1.6 * radius), 0.0, 1.0));
  }
  normal = normalize(normal);
  if (dot(normal, at) > 0.0) normal = -normal;
  float sky = mix(0.55, 0.8, 0.5 + 0.5 * normal.y), sun = max(dot(normal, vec3(-0.36, 0.60, 0.71)), 0.0);
  color = vec4(min(base * (sky + 0.35 * sun), 1.0), 1.0);
}`;

const START = { yaw: (35 - 180) * Math.PI / 180, pitch: 20 * Math.PI / 180, zoom: 1 };  // the object faces -z: its front, from its right
const SLOPE = Math.tan(14 * Math.PI / 180);  // half the angle of view

class Orbit {
  constructor() {
    this.panes = [];
    this.reset();
  }
  reset() {
    Object.assign(this, START);
    this.changed();
  }
  turn(right, down) {
    this.yaw += right;
    this.pitch = Math.min(Math.max(this.pitch + down, -Math.PI / 2), Math.PI / 2);
    this.changed();
  }
  closer(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.3), 8);
    this.changed();
  }
  changed() {
    this.panes.forEach((pane) => pane.refresh());
  }
  follow(canvas) {
    const keys = {
      ArrowLeft: () => this.turn(-0.15, 0), ArrowRight: () => this.turn(0.15, 0), ArrowUp: () => this.turn(0, -0.15),
      ArrowDown: () => this.turn(0, 0.15), "+": () => this.closer(1.15), "=": () => this.closer(1.15),
      "-": () => this.closer(1 / 1.15), 0: () => this.reset(),
    };
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = event;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      this.turn((event.clientX - last.clientX) * 0.01, (event.clientY - last.clientY) * 0.01);
      last = event;
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.closer(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}

class Pane {
  constructor(canvas, orbit) {
    this.canvas = canvas;
    this.orbit = orbit;
    this.colored = true;
    this.shape = null;
    this.gl = canvas.getContext("webgl2", { antialias: true });
    if (!this.gl) throw new Error("no WebGL 2");
    this.begin();
    orbit.panes.push(this);
    orbit.follow(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.begin(); this.show(this.shape, this.frame); });
    new ResizeObserver(() => this.refresh()).observe(canvas);
  }
  begin() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    this.at = (name) => gl.getUniformLocation(program, name);
    this.attributes = ["place", "normal", "color"].map((name) => gl.getAttribLocation(program, name));
    this.buffers = Array.from({ length: 4 }, () => gl.createBuffer());
  }
  show(shape, frame) {  // as `unpackShape` gives it; frame: {center, radius} of what is seen
    this.shape = shape;
    this.frame = frame;
    if (shape) {
      const gl = this.gl, [place, normal, color] = this.attributes;
      const send = (i, at, array, kind) => {
        gl.disableVertexAttribArray(at);
        gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[i]);
        gl.bufferData(gl.ARRAY_BUFFER, array ?? new Float32Array(0), gl.STATIC_DRAW);
        if (!array) return;
        gl.enableVertexAttribArray(at);
        gl.vertexAttribPointer(at, 3, kind, kind !== gl.FLOAT, 0, 0);
      };
      send(0, place, shape.places, gl.UNSIGNED_SHORT);
      send(1, normal, shape.normals, gl.FLOAT);
      send(2, color, this.colored ? shape.colors : null, gl.UNSIGNED_BYTE);
      gl.vertexAttrib3f(color, 0.72, 0.74, 0.78);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers[3]);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, shape.faces, gl.STATIC_DRAW);
    }
    this.refresh();
  }
  refresh() {
    this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.draw(); });
  }
  draw() {
    const gl = this.gl, scale = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * scale), height = Math.round(this.canvas.clientHeight * scale);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.shape || !width || !height) return;
    const { center, radius } = this.frame, { yaw, pitch, zoom } = this.orbit, side = Math.min(width, height);
    const focal = zoom / SLOPE, distance = radius / Math.sin(Math.atan(SLOPE));
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    gl.uniform3fv(this.at("low"), this.shape.low);
    gl.uniform3fv(this.at("extent"), this.shape.extent);
    gl.uniform3fv(this.at("center"), center);
    gl.uniformMatrix3fv(this.at("turn"), false, [cy, sy * sp, -sy * cp, 0, cp, sp, sy, -cy * sp, cy * cp]);  // by columns
    gl.uniform2f(this.at("focal"), focal * side / width, focal * side / height);
    gl.uniform1f(this.at("distance"), distance);
    gl.uniform1f(this.at("radius"), radius);
    gl.uniform1f(this.at("pixels"), 0.014 * radius * focal * side);
    gl.uniform3f(this.at("near"), 0.13, 0.33, 0.60);
    gl.uniform3f(this.at("far"), 0.66, 0.77, 0.89);
    const { faces, places, normals } = this.shape;
    gl.uniform1i(this.at("kind"), faces.length === 0 ? 0 : normals ? 2 : 1);
    if (faces.length) gl.drawElements(gl.TRIANGLES, faces.length, gl.UNSIGNED_INT, 0);
    else gl.drawArrays(gl.POINTS, 0, places.length / 3);
  }
}

async function unpack(text, Type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Type(await new Response(stream).arrayBuffer());
}

async function unpackShape(packed) {
  if (!packed) return null;
  const [places, steps, colors] = await Promise.all([
    unpack(packed.vertices, Uint16Array), unpack(packed.faces, Int32Array), packed.colors && unpack(packed.colors, Uint8Array),
  ]);
  const faces = new Uint32Array(steps.length);
  for (let i = 0, corner = 0; i < steps.length; i++) faces[i] = corner += steps[i];
  const shape = { low: packed.low, extent: packed.extent, places, faces, colors };
  return { ...shape, normals: packed.smooth ? smoothNormals(shape) : null };
}

function smoothNormals({ places, faces, extent }) {  // of the faces around a vertex, weighted by their area
  const normals = new Float32Array(places.length), [a, b] = [[0, 0, 0], [0, 0, 0]];
  for (let i = 0; i < faces.length; i += 3) {
    const [p, q, r] = [3 * faces[i], 3 * faces[i + 1], 3 * faces[i + 2]];
    for (let k = 0; k < 3; k++) {
      a[k] = (places[q + k] - places[p + k]) * extent[k];
      b[k] = (places[r + k] - places[p + k]) * extent[k];
    }
    for (let k = 0; k < 3; k++) {
      const [m, n] = [(k + 1) % 3, (k + 2) % 3], part = a[m] * b[n] - a[n] * b[m];
      normals[p + k] += part;
      normals[q + k] += part;
      normals[r + k] += part;
    }
  }
  return normals;
}

function frameOf(shapes) {  // the ball around the box of all shapes together
  const low = [0, 1, 2].map((k) => Math.min(...shapes.map((shape) => shape.low[k])));
  const high = [0, 1, 2].map((k) => Math.max(...shapes.map((shape) => shape.low[k] + shape.extent[k])));
  return { center: low.map((x, k) => (x + high[k]) / 2), radius: Math.hypot(...low.map((x, k) => high[k] - x)) / 2 || 1 };
}
