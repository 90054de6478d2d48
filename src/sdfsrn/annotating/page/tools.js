// The panel of tools: which tool is chosen, which step, which flags; and the hint below the picture.

import { byId, write } from "./dom.js";
import { stateWords } from "./filmstrip.js";

const ONE_DECIMAL = 10;

function press(name, isPressed) {
  for (const button of document.querySelectorAll(`[data-action="${name}"]`)) {
    button.setAttribute("aria-pressed", String(isPressed));
  }
}

export function showTools(app) {
  const { drawing, step, current, draft } = app;
  if (!current) return;
  byId("mask-tools").hidden = step !== "mask";
  byId("pose-tools").hidden = step !== "pose";
  press("mask", step === "mask");
  press("pose", step === "pose");
  for (const tool of ["box", "brush", "polygon"]) press(tool, drawing.tool === tool);
  press("swap", drawing.erases);
  press("grabcut", app.canCut && drawing.cutsAgain);
  for (const button of document.querySelectorAll('[data-action="grabcut"]')) button.disabled = !app.canCut;
  byId("no-grabcut").hidden = app.canCut;
  press("hide", app.isHidden);
  press("dim", app.isDimmed);
  press("zoom", app.isZoomed);
  press("skipped", current.state === "skipped");
  press("cutOff", current.cut_off);
  press("unsure", current.unsure);
  write(byId("swap-words"), drawing.erases ? "Erasing" : "Adding");
  write(byId("radius"), `${drawing.radius} px`);
  const isWaiting = app.outbox.pending(current.id).length > 0;
  byId("undo").disabled = !draft || (draft.undo === 0 && !isWaiting);
  byId("redo").disabled = !draft || (draft.redo === 0 && !isWaiting);
  write(byId("onward-words"), step === "mask" ? "Pose" : "Next picture");
  byId("cutting").hidden = !app.isCutting;
  byId("loading").hidden = Boolean(app.bitmap) || Boolean(current.error);
  Object.assign(byId("stage").dataset, { step, tool: drawing.showsBrush ? "brush" : drawing.tool });
  write(byId("zoomed"), `${Math.round(100 * app.stage.view.zoom)} %`);
}

export function showPose(app, isTyping) {
  const { posing, draft, current, shape, iou } = app;
  if (!draft) return;
  for (const name of ["azimuth", "elevation", "theta"]) {
    const value = String(Math.round(posing.pose[name] * ONE_DECIMAL) / ONE_DECIMAL);
    if (!isTyping && byId(name).value !== value) byId(name).value = value;
  }
  const { scale, x } = posing.pose;
  const isOwn = scale !== null || x !== null;
  write(byId("placement"), isOwn ? "Size and place set by hand" : "Size and place follow the mask");
  write(byId("proposed"), posing.isConfirmed ? "" : "Proposed: Enter takes it");
  byId("iou").hidden = !shape;
  write(byId("iou"), iou === null ? "" : `Shape and mask: IoU ${iou.toFixed(2)}`);
  byId("stage").setAttribute("aria-label", `${current.name}, ${stateWords(current)}; ${posing.words}`);
  write(byId("hint"), hint(app));
}

/** What to do now, in one line. */
export function hint(app) {
  const { step, drawing, current, canCut, mask, draft, shape } = app;
  if (current.error) return current.error;
  if (!draft) return "";
  if (step === "pose") {
    const aim = shape ? "the predicted shape onto the object" : "the box until its orange front lies on the object's front";
    return `Drag turns ${aim}. Shift: roll, wheel: size, middle button: move.`;
  }
  if (drawing.tool === "box") {
    return canCut ? "Drag a box round the object, a little larger than it." : "Drag a box; then erase around the object.";
  }
  if (drawing.tool === "polygon") return "Click along the outline; the first corner, or Enter, closes it. Right or Alt cuts out.";
  return mask && draft.mask
    ? "Left adds, right or Alt removes. Space: on to the pose."
    : "Paint the object. Left adds, right or Alt removes.";
}
