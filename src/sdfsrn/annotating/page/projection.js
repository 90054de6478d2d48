// The weak-perspective nmr camera of `sdfsrn.data.conventions`, and the unit box seen by it. World: y up, objects face -z.

const RADIANS = Math.PI / 180;

const CORNERS = [-0.5, 0.5].flatMap((x) => [-0.5, 0.5].flatMap((y) => [-0.5, 0.5].map((z) => [x, y, z])));
const EDGES = CORNERS.flatMap((one, i) => CORNERS.flatMap((two, j) => (
  j > i && one.filter((value, axis) => value !== two[axis]).length === 1 ? [[one, two]] : []
)));
const isFront = ([one, two]) => one[2] === -0.5 && two[2] === -0.5;

export const SIDES = EDGES.filter((edge) => !isFront(edge));
export const FRONT_EDGES = EDGES.filter(isFront);
export const FRONT_FACE = [[-0.5, -0.5, -0.5], [0.5, -0.5, -0.5], [0.5, 0.5, -0.5], [-0.5, 0.5, -0.5]];
export const AXES = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] };

/** Rows of Rz(-theta) Rx(elevation + 90) Rz(azimuth) C, with C (x, y, z) = (-x, z, y): from the world to the camera's axes
 * (x right, y down, z forward). Angles in degrees, nmr convention. */
export function rotation({ azimuth, elevation, theta }) {
  const [sa, ca] = [Math.sin(azimuth * RADIANS), Math.cos(azimuth * RADIANS)];
  const [se, ce] = [Math.sin(elevation * RADIANS), Math.cos(elevation * RADIANS)];
  const [st, ct] = [Math.sin(theta * RADIANS), Math.cos(theta * RADIANS)];
  const right = [-ca, 0, -sa];
  const down = [se * sa, -ce, -se * ca];
  return [
    right.map((value, i) => ct * value + st * down[i]),
    right.map((value, i) => -st * value + ct * down[i]),
    [-ce * sa, -se, ce * ca],
  ];
}

/** World points to [x, y, depth]: pixels from the outer corner of the first pixel, and world units from the origin.
 * `pose` has angles in degrees, and `scale`, `x`, `y` on the screen [-1, 1]^2 of a picture of `width` x `height` pixels. */
export function project(pose, { width, height }, points) {
  const [right, down, forward] = rotation(pose);
  const unit = pose.scale * width / 2;
  const middle = [(pose.x + 1) * width / 2, (pose.y + 1) * height / 2];
  const dot = (row, point) => row[0] * point[0] + row[1] * point[1] + row[2] * point[2];
  return points.map((point) => [
    middle[0] + unit * dot(right, point), middle[1] + unit * dot(down, point), dot(forward, point),
  ]);
}
