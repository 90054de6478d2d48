// Meshes and points, drawn by three.js. `Pane` draws one geometry on one canvas; panes that share an `Orbit` turn together.

const START = { yaw: (35 - 180) * Math.PI / 180, pitch: 20 * Math.PI / 180, zoom: 1 };  // the object faces -z: its front, from its right
const SLOPE = Math.tan(14 * Math.PI / 180);  // half the angle of view
const POLE = 0.999 * Math.PI / 2;  // straight from above, "up" has no direction
const PLAIN = 0xb8bdc7, NEAR = 0x215499, FAR = 0xa8c4e3;  // meshes without colours; points, by depth

class Orbit {  // where all panes are seen from; the bundle's own TrackballControls has no fixed "up" and no keys to turn with
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
    this.pitch = THREE.MathUtils.clamp(this.pitch + down, -POLE, POLE);
    this.changed();
  }
  closer(factor) {
    this.zoom = THREE.MathUtils.clamp(this.zoom * factor, 0.3, 8);
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
    const context = canvas.getContext("webgl2", { antialias: true });
    if (!context) throw new Error("no WebGL 2");
    this.canvas = canvas;
    this.orbit = orbit;
    this.renderer = new THREE.WebGLRenderer({ canvas, context, alpha: true });
    this.camera = new THREE.PerspectiveCamera();
    this.scene = new THREE.Scene();
    this.scene.fog = new THREE.Fog(FAR);
    const sun = new THREE.DirectionalLight(0xffffff, 0.35);  // over the viewer's left shoulder
    sun.position.set(-0.36, 0.6, 0.71);
    this.camera.add(sun, sun.target);
    this.scene.add(this.camera, new THREE.HemisphereLight(0xcccccc, 0x8c8c8c));
    this.faces = new THREE.Mesh(undefined, new THREE.MeshPhongMaterial({ side: THREE.DoubleSide, specular: 0, fog: false }));
    this.points = new THREE.Points(undefined, new THREE.PointsMaterial({ color: NEAR, map: ball(), alphaTest: 0.5 }));
    this.scene.add(this.faces, this.points);
    orbit.panes.push(this);
    orbit.follow(canvas);
    canvas.addEventListener("webglcontextrestored", () => this.refresh());
    new ResizeObserver(() => this.refresh()).observe(canvas);
  }
  show(geometry, frame, colored) {  // frame: the ball that is seen whole; without a geometry nothing is drawn
    this.faces.visible = Boolean(geometry?.index);
    this.points.visible = Boolean(geometry) && !geometry.index;
    this.frame = frame;
    if (geometry) {
      if (geometry !== this.faces.geometry) this.faces.geometry.dispose();
      this.faces.geometry = this.points.geometry = geometry;
      const vertexColors = colored && geometry.hasAttribute("color");
      this.faces.material.setValues({ vertexColors, color: vertexColors ? 0xffffff : PLAIN, flatShading: !geometry.userData.smooth });
      this.faces.material.needsUpdate = true;
    }
    this.refresh();
  }
  refresh() {
    this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.draw(); });
  }
  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas, { camera, frame, orbit } = this;
    if (!width || !height) return;
    if (!frame) return this.renderer.clear();
    const distance = frame.radius / Math.sin(Math.atan(SLOPE)), slope = SLOPE * Math.max(1, height / width);
    camera.position.setFromSphericalCoords(distance, Math.PI / 2 - orbit.pitch, -orbit.yaw).add(frame.center);
    camera.lookAt(frame.center);
    const view = { fov: THREE.MathUtils.radToDeg(2 * Math.atan(slope)), aspect: width / height, zoom: orbit.zoom };
    Object.assign(camera, view, { near: distance - 1.1 * frame.radius, far: distance + 1.1 * frame.radius });
    camera.updateProjectionMatrix();
    Object.assign(this.scene.fog, { near: distance - 0.8 * frame.radius, far: distance + 0.8 * frame.radius });
    this.points.material.size = 0.028 * frame.radius * orbit.zoom / slope;  // in halves of the picture's height, one unit away
    this.renderer.setPixelRatio(window.devicePixelRatio || 1);
    this.renderer.setSize(width, height, false);
    this.renderer.render(this.scene, camera);
  }
}

function ball() {  // what a point looks like: round, and darker towards its rim
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 }), context = canvas.getContext("2d");
  const shade = context.createRadialGradient(12, 10, 1, 16, 16, 16);
  shade.addColorStop(0, "#fff");
  shade.addColorStop(1, "#777");
  context.fillStyle = shade;
  context.arc(16, 16, 15, 0, 2 * Math.PI);
  context.fill();
  return new THREE.CanvasTexture(canvas);
}

async function inflate(text, Type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Type(await new Response(stream).arrayBuffer());
}

async function unpack({ low, extent, vertices, faces, colors, smooth }) {
  const [places, steps, paint] = await Promise.all([
    inflate(vertices, Uint16Array), inflate(faces, Int32Array), colors && inflate(colors, Uint8Array),
  ]);
  const geometry = new THREE.BufferGeometry(), position = Float32Array.from(places, (x, i) => low[i % 3] + extent[i % 3] * x / 65535);
  geometry.setAttribute("position", new THREE.BufferAttribute(position, 3));
  if (paint) geometry.setAttribute("color", new THREE.BufferAttribute(paint, 3, true));
  if (steps.length) {
    let corner = 0;
    geometry.setIndex(new THREE.BufferAttribute(Uint32Array.from(steps, (step) => corner += step), 1));
    geometry.computeVertexNormals();
  }
  geometry.userData.smooth = smooth;
  geometry.computeBoundingBox();
  return geometry;
}

function frameOf(geometries) {  // the ball around the box of all of them together
  const box = new THREE.Box3();
  geometries.forEach((geometry) => box.union(geometry.boundingBox));
  const sphere = box.getBoundingSphere(new THREE.Sphere());
  return sphere.radius > 0 ? sphere : sphere.set(sphere.center, 1);
}
