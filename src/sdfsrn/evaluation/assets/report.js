// The page: everything comes from the JSON in #data, and text enters the document as text only.

const data = JSON.parse(document.getElementById("data").textContent);
const column = Object.fromEntries(data.columns.map((name, i) => [name, i]));
const get = (row, name) => data.rows[row][column[name]];
const name = (row) => String(get(row, "name"));
const status = (row) => String(get(row, "status"));
const failed = (row) => status(row).startsWith("failure");
const pictured = Object.keys(data.objects).map(Number);
const metrics = Object.keys(data.metrics);
const details = data.columns.filter((key) => key !== "name" && key !== "status");
const all = data.rows.map((_, i) => i);
const MOST_ROWS = 200;  // shown before one asks for all
const state = { metric: metrics[0], object: pictured[0], sort: null, down: false, all: false };

const $ = (id) => document.getElementById(id);
const words = (key) => key.replaceAll("_", " ").replace(/\biou\b/, "IoU").replace(/\bf ?score\b/, "F-score").replace("@", " at ");

function make(tag, attributes = {}, ...children) {
  const space = ["svg", "g", "rect", "line", "text", "title"].includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Numbers: as many decimals in a whole column as show three digits of its median.

function decimals(values) {
  const sizes = values.filter((x) => Number.isFinite(x) && x !== 0).map(Math.abs).sort((a, b) => a - b);
  if (!sizes.length || sizes.every(Number.isInteger)) return 0;
  return Math.min(Math.max(2 - Math.floor(Math.log10(sizes[sizes.length >> 1])), 0), 6);
}

const digits = Object.fromEntries(details.map((key) => [key, decimals(all.map((row) => get(row, key)))]));

function show(value, key) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const places = digits[key] ?? decimals([value]);
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

const measured = (key) => all.filter((row) => Number.isFinite(get(row, key)));
const sense = (key) => (data.metrics[key].higher_is_better ? "higher is better" : "lower is better");
const arrow = (key) => make("span", { class: "sense", title: sense(key), "aria-label": sense(key), role: "img" }, data.metrics[key].higher_is_better ? "↑" : "↓");
const badge = (row) => make("span", { class: failed(row) ? "badge failed" : status(row) === "ok" ? "pale" : "badge" }, status(row));
const uri = (picture) => `data:image/png;base64,${picture}`;
const thumbs = (row, most = 2) => Object.values(data.objects[row].pictures).slice(0, most).map((picture) => make("img", { src: uri(picture), alt: "", class: "thumb" }));
const noThumb = () => make("span", { class: "thumb none", title: "no pictures in this report" });

function header() {
  const ok = all.filter((row) => status(row) === "ok").length, failures = all.filter(failed).length, other = all.length - ok - failures;
  $("title").textContent = data.title;
  $("counts").append(`${show(all.length)} objects, ${show(ok)} measured`);
  if (failures) $("counts").append(", ", make("span", { class: "badge failed" }, `${show(failures)} failed`));
  if (other) $("counts").append(`, ${show(other)} not measured`);
  for (const [key, value] of Object.entries(data.facts)) {
    if (value !== null && typeof value === "object") $("details").append(fold(key, value));
    else $("facts").append(make("div", {}, make("dt", {}, words(key)), make("dd", {}, String(value ?? "–"))));
  }
}

function fold(key, value) {
  const items = Object.entries(value).map(([inner, item]) =>
    make("div", {}, make("dt", {}, words(inner)), make("dd", {}, item !== null && typeof item === "object" ? JSON.stringify(item) : String(item ?? "–"))));
  return make("details", {}, make("summary", {}, words(key)), make("dl", {}, ...items));
}

function numbers() {
  const references = [...new Set(metrics.flatMap((key) => Object.keys(data.metrics[key].references)))];
  const intervals = metrics.some((key) => data.metrics[key].interval);
  const heading = (...text) => make("th", { scope: "col" }, ...text);
  const cells = (key) => {
    const { mean, median, interval, references: others } = data.metrics[key];
    return [
      make("td", {}, make("b", {}, show(mean, key))),
      intervals ? make("td", { class: "pale" }, interval ? `${show(interval[0], key)} – ${show(interval[1], key)}` : "–") : null,
      make("td", {}, show(median, key)),
      ...references.map((other) => make("td", { class: "pale" }, show(others[other], key))),
    ];
  };
  $("numbers").append(
    make("thead", {}, make("tr", {}, heading("Metric"), heading("Mean"), intervals ? heading("95 % interval") : null, heading("Median"), ...references.map((other) => heading(other)))),
    make("tbody", {}, ...metrics.map((key) => make("tr", {}, make("th", { scope: "row" }, words(key), " ", arrow(key)), ...cells(key)))),
  );
  const few = metrics.some((key) => measured(key).length < all.length);
  const notes = [few && "Each figure is over those objects of which it could be measured.", intervals && "The interval is that of the mean, over objects.",
    references.length && "To the right are means to compare with, measured alike."];
  $("numbers-note").textContent = notes.filter(Boolean).join(" ");
}

// The histogram: of the chosen metric, with the mean and the references marked.

function histogram() {
  const key = state.metric, values = measured(key).map((row) => get(row, key)), figure = $("histogram");
  if (!values.length) return figure.replaceChildren(make("p", { class: "note" }, "No object was measured."));
  const { mean, references } = data.metrics[key], [least, most] = [Math.min(...values), Math.max(...values)];
  const marks = [["mean", mean], ...Object.entries(references)].map(([label, value], i) => ({ label, value, kind: `mark m${Math.min(i, 4)}` }))
    .filter(({ value }) => Number.isFinite(value));
  const close = marks.map(({ value }) => value).filter((value) => Math.max(least - value, value - most) <= most - least);
  const ticks = nice(Math.min(least, ...close), Math.max(most, ...close)), [low, high] = [ticks[0], ticks.at(-1)];
  const [width, height, base] = [Math.max(figure.clientWidth, 240), 200, 172], x = (value) => 4 + (value - low) / (high - low) * (width - 8);
  const text = `Histogram of ${words(key)} over ${values.length} objects, from ${show(least, key)} to ${show(most, key)}, mean ${show(mean, key)}.`;
  const places = Math.max(0, -Math.floor(Math.log10(ticks[1] - ticks[0]) + 1e-9));
  const labels = ticks.map((tick, i) => make("text", { x: x(tick), y: height - 8, "text-anchor": i === 0 ? "start" : i === ticks.length - 1 ? "end" : "middle" },
    tick.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places })));
  const lines = marks.filter(({ value }) => value >= low && value <= high).map(({ label, value, kind }) =>
    make("g", {}, make("line", { class: kind, x1: x(value), x2: x(value), y1: 2, y2: base }), make("title", {}, `${label}: ${show(value, key)}`)));
  figure.replaceChildren(
    make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text },
      make("line", { class: "axis", x1: 0, x2: width, y1: base, y2: base }), ...bars(values, low, high, x, base, key), ...lines, ...labels),
    make("figcaption", {}, make("span", {}, `Objects by ${words(key)}; ${sense(key)}.`), ...marks.map(({ label, value, kind }) =>
      make("span", {}, make("i", { class: `key ${kind}` }), `${label} ${show(value, key)}${value < low || value > high ? " (off the chart)" : ""}`))),
  );
}

function bars(values, low, high, x, base, key) {
  const count = Math.min(Math.max(Math.round(2 * Math.sqrt(values.length)), 8), 40), bins = Array(count).fill(0);
  for (const value of values) bins[Math.min(Math.floor((value - low) / (high - low) * count), count - 1)]++;
  const unit = (base - 26) / Math.max(...bins), edge = (i) => low + i / count * (high - low), width = x(edge(1)) - x(edge(0));
  return bins.map((n, i) => n === 0 ? null : make("g", {},
    make("rect", { class: "column", x: x(edge(i)) + 1, width: width - 2, y: base - unit * n, height: unit * n, rx: 2 }),
    width > 20 ? make("text", { class: "count", x: x(edge(i + 0.5)), y: base - unit * n - 5, "text-anchor": "middle" }, String(n)) : null,
    make("title", {}, `${n} object${n > 1 ? "s" : ""} from ${show(edge(i), key)} to ${show(edge(i + 1), key)}`)));
}

function nice(low, high) {  // round numbers around both
  const span = high - low || Math.abs(high) || 1, power = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= 6), first = Math.floor(low / step);
  const last = Math.max(Math.ceil(high / step), first + 1);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function ranking() {
  const key = state.metric, sign = data.metrics[key].higher_is_better ? -1 : 1;
  const order = measured(key).sort((a, b) => sign * (get(a, key) - get(b, key))), n = order.length;
  const k = Math.min(3, Math.max(1, Math.floor(n / 3))), middle = Math.max(0, Math.floor((n - k) / 2));
  const groups = { Best: order.slice(0, k), Median: n > 2 ? order.slice(middle, middle + k) : [], Worst: n > 1 ? order.slice(-k) : [] };
  $("ranking").replaceChildren(...Object.entries(groups).filter(([, rows]) => rows.length).map(([title, rows]) =>
    make("div", {}, make("h3", {}, title), ...rows.map((row) => card(row, key)))));
}

function card(row, key) {
  const text = make("span", { class: "text" }, make("span", { class: "name" }, name(row)), make("span", { class: "pale" }, show(get(row, key), key)));
  if (!data.objects[row]) return make("div", { class: "card" }, noThumb(), text);
  return make("button", { type: "button", class: "card", click: () => choose(row, true) }, ...thumbs(row), text);
}

// One object: pictures and panes.

const orbit = new Orbit();
let panes = null;
let shown = [null, null];  // geometries of the chosen object's mesh and truth

function startViewer() {
  try {
    if (typeof DecompressionStream === "undefined") throw new Error("no DecompressionStream");
    panes = { mesh: new Pane($("mesh"), orbit), truth: new Pane($("truth"), orbit) };
  } catch (error) {
    $("viewer").hidden = true;
    $("viewer-message").hidden = false;
    $("viewer-message").textContent = `Meshes cannot be shown here: this browser offers no WebGL 2 (${error.message}). The mesh files beside this page open in any 3D program.`;
  }
  $("reset").addEventListener("click", () => orbit.reset());
  $("colors").addEventListener("change", paint);
}

function paint() {
  const known = shown.filter(Boolean), frame = known.length ? frameOf(known) : null;
  Object.values(panes).forEach((pane, i) => pane.show(shown[i], frame, $("colors").checked));
}

function choose(row, scroll = false) {
  const found = data.objects[row];
  state.object = row;
  $("look-heading").replaceChildren(make("span", { class: "name" }, name(row)), " ", badge(row));
  $("values").replaceChildren(...details.map((key) => make("div", {}, make("dt", {}, words(key)), make("dd", {}, show(get(row, key), key)))));
  $("pictures").replaceChildren(...Object.entries(found.pictures).map(([heading, picture]) =>
    make("figure", {}, make("img", { src: uri(picture), alt: `${heading} of ${name(row)}` }), make("figcaption", {}, heading))));
  for (const button of $("filmstrip").children) {
    const current = Number(button.dataset.row) === row;
    button.setAttribute("aria-pressed", current);
    if (current) $("filmstrip").scrollLeft = button.offsetLeft - ($("filmstrip").clientWidth - button.clientWidth) / 2;
  }
  if (panes) showShapes(row, found);
  if (scroll) $("look").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

const caption = (packed, none) => (packed ? packed.size + (packed.drawn ? ` (${packed.drawn} drawn here)` : "") : none);

async function showShapes(row, found) {
  const geometries = await Promise.all([found.mesh, found.truth].map((packed) => packed && unpack(packed)));
  if (state.object !== row) return;  // another was chosen in the meantime
  shown = geometries;
  $("truth-pane").hidden = !found.truth;
  $("mesh-size").textContent = caption(found.mesh, found.written ? "no surface was found" : "no file of it was written");
  $("truth-size").textContent = caption(found.truth, "");
  $("mesh").setAttribute("aria-label", `Reconstruction of ${name(row)} in 3D; arrow keys turn it`);
  $("truth").setAttribute("aria-label", `Ground truth of ${name(row)} in 3D; arrow keys turn it`);
  paint();
}

function filmstrip() {
  $("object").hidden = $("filmstrip").hidden = !pictured.length;
  $("no-objects").hidden = pictured.length > 0;
  if (!pictured.length) return;
  $("filmstrip").append(...pictured.map((row) => make("button", { type: "button", "data-row": row, title: name(row), "aria-label": name(row), class: failed(row) ? "failed" : null, click: () => choose(row) }, ...thumbs(row, 1))));
  const step = (by) => choose(pictured[(pictured.indexOf(state.object) + by + pictured.length) % pictured.length]);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  startViewer();
  choose(state.object);
}

// The table of all objects.

function table() {
  const keys = ["name", "status", ...details];
  const sort = (key) => () => {
    state.down = state.sort === key && !state.down;
    state.sort = key;
    fill();
  };
  $("table").append(
    make("thead", {}, make("tr", {}, ...keys.map((key) => make("th", { scope: "col", "data-key": key }, make("button", { type: "button", click: sort(key) }, key === "name" ? "object" : words(key)))))),
    make("tbody"),
  );
  $("find").addEventListener("input", fill);
  $("more").addEventListener("click", () => { state.all = true; fill(); });
  fill();
}

function compare(a, b) {  // what is missing comes last, whichever way is up
  const [x, y] = [get(a, state.sort), get(b, state.sort)], sign = state.down ? -1 : 1;
  if (x === null || y === null) return (x === null) - (y === null);
  return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
}

function fill() {
  const wanted = $("find").value.toLowerCase(), rows = all.filter((row) => `${name(row)} ${status(row)}`.toLowerCase().includes(wanted));
  if (state.sort !== null) rows.sort(compare);
  for (const th of $("table").tHead.rows[0].cells) {
    const chosen = th.dataset.key === state.sort;
    th.setAttribute("aria-sort", chosen ? (state.down ? "descending" : "ascending") : "none");
  }
  const shown = state.all ? rows : rows.slice(0, MOST_ROWS);
  $("table").tBodies[0].replaceChildren(...shown.map(line));
  $("table-note").textContent = shown.length < all.length ? `${show(shown.length)} of ${show(all.length)} objects shown.` : "";
  $("more").hidden = shown.length === rows.length;
  $("more").textContent = `Show all ${show(rows.length)}`;
}

function line(row) {
  const found = data.objects[row];
  const label = found ? make("button", { type: "button", class: "open", click: () => choose(row, true) }, ...thumbs(row), make("span", { class: "name" }, name(row)))
    : make("span", { class: "open" }, noThumb(), make("span", { class: "name" }, name(row)));
  return make("tr", { class: failed(row) ? "failed" : null }, make("th", { scope: "row" }, label), make("td", {}, badge(row)), ...details.map((key) => make("td", {}, show(get(row, key), key))));
}

function start() {
  header();
  if (metrics.length) {
    numbers();
    $("metric").append(...metrics.map((key) => make("option", { value: key }, words(key))));
    $("metric").addEventListener("change", () => { state.metric = $("metric").value; histogram(); ranking(); });
    histogram();
    ranking();
    new ResizeObserver(histogram).observe($("histogram").parentElement);
  }
  filmstrip();
  table();
}

start();
