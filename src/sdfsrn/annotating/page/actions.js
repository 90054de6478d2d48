// Everything that keys and buttons do: one table, from which buttons get their keys and the help its lines.

const NUDGE = 1, LEAP = 10;  // degrees, or steps of the cursor
const GROW = 1.03;  // of the box, per press
const MOVE = 3;  // CSS pixels, per press
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const arrows = (before = "") => Object.keys(ARROWS).map((name) => before + name);
const direction = (chord) => ARROWS[chord.replace(/^.*\+/, "")];

function turnByArrow(app, chord) {
  const [dx, dy] = direction(chord);
  const by = chord.startsWith("Shift+") ? LEAP : NUDGE;
  app.posing.turn({ azimuth: by * dx, elevation: by * dy });
}

function moveCursor(app, chord) {
  const [dx, dy] = direction(chord);
  const { drawing, current, stage } = app;
  const by = Math.max(1, Math.round(1 / stage.view.zoom)) * (chord.startsWith("Shift+") ? LEAP : 1);
  const [x, y] = drawing.cursor.map(Math.round);
  const to = [Math.min(current.width, Math.max(0, x + by * dx)), Math.min(current.height, Math.max(0, y + by * dy))];
  drawing.point(to, { isByKeys: true });
  if (stage.view.reveal(to)) stage.refresh();
}

/** Zooms about the cursor, or makes the box larger. */
function grow(app, factor) {
  const { step, stage, drawing } = app;
  if (step === "pose") app.posing.scale(GROW ** factor);
  else {
    stage.view.zoomAt(...stage.view.toStage(...drawing.cursor), 1.25 ** factor);
    app.refresh();
  }
}

// name: { keys, does, step?, group, repeats?, run(app, chord) }. With `step`, keys hold in that step only.
export const ACTIONS = {
  onward: { group: "Flow", keys: ["Enter", " "], does: "onward: from the mask to the pose, then to the next picture",
    run: (app) => (app.step === "mask" && app.drawing.close()) || app.onward() },
  mask: { group: "Flow", keys: ["m"], does: "mask step", run: (app) => app.setStep("mask") },
  maskByNumber: { group: "Flow", step: "mask", keys: ["1"], does: "mask step", run: (app) => app.setStep("mask") },
  pose: { group: "Flow", step: "mask", keys: ["2"], does: "pose step", run: (app) => app.setStep("pose") },
  next: { group: "Flow", keys: ["n"], does: "next picture", repeats: true, run: (app) => app.move(1) },
  previous: { group: "Flow", keys: ["p"], does: "previous picture", repeats: true, run: (app) => app.move(-1) },
  undo: { group: "Flow", keys: ["Ctrl+z"], does: "undo, in this picture", repeats: true, run: (app) => app.undo() },
  redo: { group: "Flow", keys: ["Ctrl+y", "Ctrl+Shift+z"], does: "redo", repeats: true, run: (app) => app.redo() },
  skipped: { group: "Flow", keys: ["s"], does: "skip this picture, or take it back in", run: (app) => app.flag("skipped") },
  cutOff: { group: "Flow", keys: ["t"], does: "object is cut off or hidden in part", run: (app) => app.flag("cut_off") },
  unsure: { group: "Flow", keys: ["u"], does: "unsure: look again later", run: (app) => app.flag("unsure") },
  zoom: { group: "Flow", keys: ["z"], does: "zoom to the object, and back", run: (app) => app.zoomToObject() },
  hide: { group: "Flow", keys: ["h"], does: "hide what is drawn over the picture", run: (app) => app.hide() },
  dim: { group: "Flow", keys: ["k"], does: "darken what is outside the mask, in the place of green inside", run: (app) => app.dim() },
  review: { group: "Flow", keys: ["v"], does: "review sheet", run: (app) => app.shown("review") },
  help: { group: "Flow", keys: ["?"], does: "this help", run: (app) => app.shown("help") },
  escape: { group: "Flow", keys: ["Escape"], does: "give up what is being drawn or turned",
    run: (app) => { app.drawing.cancel() || app.posing.cancel() || document.activeElement?.blur(); } },

  box: { group: "Mask", step: "mask", keys: ["b"], does: "box: cuts the object out", run: (app) => app.drawing.choose("box") },
  brush: { group: "Mask", step: "mask", keys: ["r"], does: "brush", run: (app) => app.drawing.choose("brush") },
  polygon: { group: "Mask", step: "mask", keys: ["o"], does: "polygon: outline by clicks",
    run: (app) => app.drawing.choose("polygon") },
  swap: { group: "Mask", step: "mask", keys: ["x"], does: "add or erase: swaps the mouse buttons",
    run: (app) => { app.drawing.erases = !app.drawing.erases; app.refresh("overlay"); } },
  smaller: { group: "Mask", step: "mask", keys: ["["], does: "smaller brush", repeats: true, run: (app) => app.drawing.resize(-1) },
  larger: { group: "Mask", step: "mask", keys: ["]"], does: "larger brush", repeats: true, run: (app) => app.drawing.resize(1) },
  grabcut: { group: "Mask", step: "mask", keys: ["g"], does: "GrabCut after every stroke, or strokes alone",
    run: (app) => { app.drawing.cutsAgain = !app.drawing.cutsAgain; app.refresh("overlay"); } },
  fillHoles: { group: "Mask", step: "mask", keys: ["i"], does: "fill holes", run: (app) => app.edit({ do: "fill_holes" }) },
  keepLargest: { group: "Mask", step: "mask", keys: ["l"], does: "keep the largest piece",
    run: (app) => app.edit({ do: "keep_largest" }) },
  clear: { group: "Mask", step: "mask", keys: ["Delete"], does: "clear the mask",
    run: (app) => { app.mask?.clear(); app.edit({ do: "clear" }); app.refresh("mask"); } },
  cursor: { group: "Mask", step: "mask", keys: [...arrows(), ...arrows("Shift+")], label: "Arrows", repeats: true,
    does: "move the cursor (Shift: 10 times as far)", run: moveCursor },
  tap: { group: "Mask", step: "mask", keys: ["d"], does: "tool down at the cursor; again: up", run: (app) => app.drawing.tap() },
  uncorner: { group: "Mask", step: "mask", keys: ["Backspace"], does: "take back a polygon's last corner", repeats: true,
    run: (app) => app.drawing.uncorner() },
  grow: { group: "Mask", step: "mask", keys: ["+", "="], does: "zoom in", repeats: true, run: (app) => grow(app, 1) },
  shrink: { group: "Mask", step: "mask", keys: ["-"], does: "zoom out", repeats: true, run: (app) => grow(app, -1) },

  turn: { group: "Pose", step: "pose", keys: [...arrows(), ...arrows("Shift+")], label: "Arrows", repeats: true,
    does: "turn by 1° (Shift: 10°); ↓ shows more of the top: elevation grows", run: turnByArrow },
  eighth: { group: "Pose", step: "pose", keys: [..."01234567"], label: "0-7", does: "azimuth 0°, 45°, ... 315°",
    run: (app, chord) => app.posing.set({ azimuth: 45 * Number(chord) }) },
  quarterLess: { group: "Pose", step: "pose", keys: ["q"], does: "turn by -90°", run: (app) => app.posing.turn({ azimuth: -90 }) },
  quarterMore: { group: "Pose", step: "pose", keys: ["e"], does: "turn by 90°", run: (app) => app.posing.turn({ azimuth: 90 }) },
  flip: { group: "Pose", step: "pose", keys: ["f"], does: "flip by 180°", run: (app) => app.posing.turn({ azimuth: 180 }) },
  rollLess: { group: "Pose", step: "pose", keys: [","], does: "roll counterclockwise by 1°", repeats: true,
    run: (app) => app.posing.turn({ theta: NUDGE }) },
  rollMore: { group: "Pose", step: "pose", keys: ["."], does: "roll clockwise by 1°", repeats: true,
    run: (app) => app.posing.turn({ theta: -NUDGE }) },
  larger3d: { group: "Pose", step: "pose", keys: ["+", "="], does: "larger", repeats: true, run: (app) => grow(app, 1) },
  smaller3d: { group: "Pose", step: "pose", keys: ["-"], does: "smaller", repeats: true, run: (app) => grow(app, -1) },
  place: { group: "Pose", step: "pose", keys: arrows("Ctrl+"), label: "Ctrl+Arrows", does: "move", repeats: true,
    run: (app, chord) => app.posing.move(...direction(chord).map((value) => MOVE * value / app.stage.view.zoom)) },
  unplace: { group: "Pose", step: "pose", keys: ["a"], does: "size and place by the mask again", run: (app) => app.posing.unplace() },
  copy: { group: "Pose", step: "pose", keys: ["c"], does: "copy the last picture's pose", run: (app) => app.posing.copyLast() },
};

const ANYTIME = new Set(["review", "help", "next", "previous", "escape", "hide", "dim"]);  // also while a picture is loading

/** Runs an action if it makes sense in this step; while a picture is being opened, as soon as it is there. */
export function act(app, name, chord = "") {
  const { step, run } = ACTIONS[name];
  if (step && step !== app.step) return;
  if (app.draft || (ANYTIME.has(name) && !app.hasEarly)) run(app, chord);
  else app.early.push({ time: performance.now(), run: () => act(app, name, chord) });
}
