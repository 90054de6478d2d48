// The help: every key, from the same table that the keys are bound by.

import { ACTIONS } from "./actions.js";
import { element } from "./dom.js";
import { keyNames } from "./keys.js";

const POINTER = {
  Mask: [["Drag", "box: GrabCut; brush: adds"], ["Right or Alt", "removes"], ["Click", "polygon: corner; the first corner closes"],
    ["Wheel", "zoom"], ["Middle", "pan"]],
  Pose: [["Drag", "turn: sideways azimuth; down shows more of the top"], ["Shift+Drag", "roll"], ["Wheel", "size"],
    ["Middle", "move"], ["Ctrl+Wheel", "zoom the picture"]],
};

function row(keys, does) {
  const names = keys.flatMap((key, i) => (i ? [" ", element("kbd", {}, key)] : [element("kbd", {}, key)]));
  return element("tr", {}, element("th", { scope: "row" }, ...names), element("td", {}, does));
}

export function showHelp(dialog, keys) {
  if (keys.childElementCount === 0) {
    for (const group of ["Flow", "Mask", "Pose"]) {
      const actions = Object.values(ACTIONS).filter((action) => action.group === group && action !== ACTIONS.maskByNumber);
      const rows = actions.map((action) => row(keyNames(action), action.does));
      const pointer = (POINTER[group] ?? []).map(([name, does]) => row([name], does));
      const heading = { Flow: "Always", Mask: "In the mask step", Pose: "In the pose step" }[group];
      keys.append(element("section", {}, element("h3", {}, heading), element("table", {}, element("tbody", {}, ...pointer, ...rows))));
    }
  }
  dialog.showModal();
}
