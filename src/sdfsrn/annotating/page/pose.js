// Poses: angles in degrees (azimuth in [0, 360), elevation in [-90, 90], theta in (-180, 180]), and `scale`, `x`, `y` on the
// screen [-1, 1]^2, null where the rule of the mask's box holds.

export const PLAIN = { azimuth: 0, elevation: 10, theta: 0, scale: null, x: null, y: null };

const ROUND = 1.6;  // world units: side of the box round an object whose mask's window is 2 units wide
const UNIT = 1.35;  // of the window's half side: objects in a window that is this much smaller fill the unit box

const modulo = (value, period) => ((value % period) + period) % period;
const tidy = (value) => Math.round(value * 1e6) / 1e6;

/** `pose` with its angles in their ranges. */
export function normalized(pose) {
  return {
    ...pose,
    azimuth: modulo(tidy(modulo(pose.azimuth, 360)), 360),
    elevation: tidy(Math.min(90, Math.max(-90, pose.elevation))),
    theta: tidy(180 - modulo(180 - pose.theta, 360)),
  };
}

export function turned(pose, { azimuth = 0, elevation = 0, theta = 0 }) {
  return normalized({
    ...pose, azimuth: pose.azimuth + azimuth, elevation: pose.elevation + elevation, theta: pose.theta + theta,
  });
}

/** `pose` with `scale`, `x`, `y` of `frame` where it has none of its own: what is drawn. */
export function placed(pose, frame) {
  return { ...pose, scale: pose.scale ?? frame.scale, x: pose.x ?? frame.x, y: pose.y ?? frame.y };
}

/** Side, in world units, of the box that is drawn. Where the unit follows from the mask (half the side of the window around
 * it), a larger box fits round the object; where a table gives a unit that objects fill, it is the unit box. */
export function boxSide({ pose, frame }) {
  return pose && pose.scale > UNIT * frame.scale ? 1 : ROUND;
}

export function scaled(pose, frame, factor) {
  return { ...pose, scale: Math.min(20, Math.max(0.01, placed(pose, frame).scale * factor)) };
}

/** Moves the origin by `dx`, `dy` pixels of a picture of `width` x `height`. */
export function moved(pose, frame, dx, dy, { width, height }) {
  const { x, y } = placed(pose, frame);
  return { ...pose, x: x + 2 * dx / width, y: y + 2 * dy / height };
}

/** `pose` with size and place by the rule of the mask's box. */
export function unplaced(pose) {
  return { ...pose, scale: null, x: null, y: null };
}

/** Sector, 0 to 7, of an azimuth: 45 degrees each, centred on the azimuths of the keys 0 to 7. */
export function sector(azimuth) {
  return Math.round(azimuth / 45) % 8;
}

/** Counts of the eight sectors over pictures whose azimuth is known and that are not skipped. */
export function sectorCounts(pictures) {
  const counts = new Array(8).fill(0);
  for (const picture of pictures) {
    if (picture.azimuth !== null && picture.state !== "skipped") counts[sector(picture.azimuth)] += 1;
  }
  return counts;
}

export function describe(pose) {
  const degrees = (value) => `${Math.round(value * 10) / 10}°`;
  return `azimuth ${degrees(pose.azimuth)}, elevation ${degrees(pose.elevation)}, roll ${degrees(pose.theta)}`;
}
