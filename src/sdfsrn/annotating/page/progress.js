// How far the folder is: counts, time left, what is saved, and the wheel of azimuths.

import { byId, svg, write } from "./dom.js";
import { sector, sectorCounts } from "./pose.js";

const RADIUS = 42, HUB = 13;  // of the wheel, in its own units
const RARE = 0.5;  // of the mean count: a sector with less is rare

/** A point of the wheel, seen from above with the viewer below: azimuth 0 points down, 90 to the right. */
const onWheel = (azimuth, radius) => {
  const angle = azimuth * Math.PI / 180;
  return [radius * Math.sin(angle), radius * Math.cos(angle)].map((value) => Math.round(value * 100) / 100);
};

function slice(azimuth, inner, outer) {
  const [from, to] = [azimuth - 21, azimuth + 21];
  const [a, b, c, d] = [onWheel(from, inner), onWheel(from, outer), onWheel(to, outer), onWheel(to, inner)];
  return `M${a}L${b}A${outer} ${outer} 0 0 0 ${c}L${d}A${inner} ${inner} 0 0 1 ${a}Z`;
}

/** Sectors with less than half of the mean count, as soon as there are eight pictures. */
export function rareSectors(counts) {
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return counts.map((count) => mean >= 1 && count < RARE * mean);
}

export class Wheel {
  constructor(app, figure) {
    this.app = app;
    this.slices = [...Array(8).keys()].map((i) => {
      const path = svg("path", { class: "share" });
      const area = svg("path", { class: "sector", d: slice(45 * i, HUB, RADIUS) }, svg("title"));
      const [x, y] = onWheel(45 * i, RADIUS + 8);
      figure.append(svg("g", {}, area, path), svg("text", { x, y, class: "digit" }, String(i)));
      area.addEventListener("click", () => app.draft && app.step === "pose" && app.posing.set({ azimuth: 45 * i }));
      return { area, path };
    });
    this.needle = svg("path", { class: "needle", d: "M-2.2,0L0,44L2.2,0Z" });
    figure.append(svg("circle", { r: HUB - 2, class: "hub" }), this.needle);
    this.figure = figure;
  }

  update() {
    const { all, draft, step, posing } = this.app;
    const counts = sectorCounts(all);
    const rare = rareSectors(counts);
    const most = Math.max(1, ...counts);
    this.slices.forEach(({ area, path }, i) => {
      path.setAttribute("d", slice(45 * i, HUB, HUB + (RADIUS - HUB) * Math.sqrt(counts[i] / most)));
      area.classList.toggle("rare", rare[i]);
      area.classList.toggle("here", Boolean(draft) && step === "pose" && sector(posing.pose.azimuth) === i);
      write(area.firstChild, `${45 * i}°: ${counts[i]} picture${counts[i] === 1 ? "" : "s"}${rare[i] ? ", still rare" : ""}`);
    });
    this.needle.setAttribute("transform", `rotate(${-(draft ? posing.pose.azimuth : 0)})`);
    this.needle.classList.toggle("faint", !draft || !posing.isConfirmed);
    const names = rare.flatMap((isRare, i) => (isRare ? [`${45 * i}°`] : []));
    write(byId("rare"), names.length ? `Still rare: ${names.join(", ")}` : "Where the front points, seen from above");
    this.figure.setAttribute("aria-label", `Pictures per azimuth: ${counts.map((n, i) => `${45 * i}°: ${n}`).join(", ")}`);
  }
}

export function showProgress(all, eta) {
  const done = all.filter(({ state }) => state === "done").length;
  const skipped = all.filter(({ state }) => state === "skipped").length;
  const isOver = done + skipped === all.length;
  const minutes = Math.ceil((eta ?? 0) / 60);
  const left = eta === null || isOver ? "" : minutes <= 1 ? ", about a minute left" : `, about ${minutes} min left`;
  write(byId("count"), `${done} of ${all.length - skipped}${left}`);
  byId("count").title = skipped ? `${skipped} skipped` : "";
  Object.assign(byId("bar"), { max: Math.max(1, all.length - skipped), value: done });
}

/** Says what is saved. `trouble`: why not. */
export function showSaved({ saved, waiting, trouble }) {
  const words = trouble ? `not saved: ${trouble}, trying again` : waiting ? "saving ..." : saved ? `saved ${saved}` : "nothing to save yet";
  const status = byId("saved");
  status.classList.toggle("trouble", Boolean(trouble));
  write(status, words);
}
