"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const checked = (id) => document.getElementById(id)?.checked ?? false;
const coarse = matchMedia("(pointer: coarse)").matches;
const BANDS = 4; // with more arms in a panel bands would hide each other: bars alone
const GREY = "#606060";
const FAN = 4; // pixels over which the arms of a panel are fanned out

// ------------------------------------------------------------------------------------ filters

let unchecked = {}; // choice -> the values that are filtered out
const passes = (words) => data.filters.every((name) => !unchecked[name].has(words[name]));

function filter() {
  unchecked = Object.fromEntries(data.filters.map((name) => [name, new Set()]));
  for (const box of find(".filter input:not(:checked)")) unchecked[box.name].add(box.value);
  for (const item of find("[data-words]")) item.hidden = !passes(JSON.parse(item.dataset.words));
  const rows = find("#runs tbody tr");
  const shown = rows.filter((row) => !row.hidden).length;
  const text = shown ? `${shown} of ${rows.length} runs shown` : "no run matches these filters";
  document.getElementById("count").textContent = text;
}

// ------------------------------------------------------------------------------------- curves

const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const percent = (share, digits = 2) => `${(100 * share).toFixed(digits)} %`;
const millions = (count) => `${Number((count / 1e6).toPrecision(3))} M`;

function place(point, axis) {
  if (axis !== "share") return point[axis] == null ? null : point[axis] / data.axes[axis].unit;
  return point.macs == null || !point.dense_macs ? null : (100 * point.macs) / point.dense_macs;
}

function costs(point) {
  const parts = [];
  const share = place(point, "share");
  if (point.macs != null) parts.push(`${millions(point.macs)} MACs${share == null ? "" : ` (${share.toFixed(1)} %)`}`);
  if (point.params != null) parts.push(`${millions(point.params)} parameters`);
  if (point.latency_ms != null) parts.push(`${Number(point.latency_ms.toPrecision(3))} ms`);
  return parts.join(", ");
}

function accuracies(point) {
  const half = point.accuracy_high == null ? "" : ` ± ${(100 * (point.accuracy_high - point.accuracy)).toFixed(2)}`;
  const lines = [`test accuracy <b>${(100 * point.accuracy).toFixed(2)}${half} %</b>`];
  if (point.dense_accuracy != null) lines.push(`dense net ${percent(point.dense_accuracy)}`);
  if (point.drop != null) lines.push(`drop ${(100 * point.drop).toFixed(2)} points`);
  if (point.raw_accuracy != null) lines.push(`right after removal ${percent(point.raw_accuracy)}`);
  if (point.val_accuracy != null) lines.push(`validation ${percent(point.val_accuracy)}`);
  return lines;
}

function hover(line, point) {
  const words = Object.entries(line.words).filter(([name, value]) => value && !["dataset", "net"].includes(name));
  const choices = words.map(([name, value]) => `${name}=${value}`);
  const lines = [`<b>${escaped(line.label)}</b>`];
  for (let i = 0; i < choices.length; i += 3) lines.push(escaped(choices.slice(i, i + 3).join(" ")));
  lines.push(point.seeds != null ? `mean of ${point.seeds} seed${point.seeds > 1 ? "s" : ""}, keep=${point.keep}` : `seed=${point.seed}, keep=${point.keep}`);
  lines.push(...accuracies(point), costs(point));
  if (point.digest) lines.push(`digest ${escaped(point.digest)}`);
  return lines.join("<br>");
}

const hoverer = { hovertemplate: "%{text}<extra></extra>", hoverlabel: { align: "left" } };

function drawn(points, axis) {
  const there = points.filter((point) => point.accuracy != null && place(point, axis) != null);
  return there.sort((one, other) => place(one, axis) - place(other, axis));
}

// Both ends of the drawn interval in percent: no accuracy is below 0 or above 100 %.
function interval(point) {
  if (point.accuracy_high == null) return null;
  return [100 * Math.max(0, point.accuracy_low), 100 * Math.min(1, point.accuracy_high)];
}

function mean(line, axis) {
  const points = drawn(line.means, axis);
  const ends = points.map((point) => interval(point) ?? [100 * point.accuracy, 100 * point.accuracy]);
  const above = points.map((point, i) => ends[i][1] - 100 * point.accuracy);
  const below = points.map((point, i) => 100 * point.accuracy - ends[i][0]);
  const bars = checked("intervals") && [...above, ...below].some((length) => length > 0);
  return {
    ...hoverer, type: "scatter", mode: "lines+markers", name: line.label, meta: line.key,
    x: points.map((point) => place(point, axis)), y: points.map((point) => 100 * point.accuracy),
    text: points.map((point) => hover(line, point)),
    line: { color: line.color, dash: line.dash, width: 1.8 },
    marker: { symbol: line.symbol + (line.open ? "-open" : ""), size: line.dense ? 13 : 9, color: line.color, line: { color: line.color, width: 1.5 } },
    error_y: bars ? { type: "data", symmetric: false, array: above, arrayminus: below, color: line.color, thickness: 1, width: 3 } : undefined,
  };
}

function band(line, axis) {
  const points = drawn(line.means, axis).filter((point) => point.accuracy_high != null);
  const back = points.slice().reverse();
  return {
    type: "scatter", mode: "lines", name: `${line.label}, interval`, meta: line.key, hoverinfo: "skip", fill: "toself",
    x: [...points, ...back].map((point) => place(point, axis)),
    y: [...points.map((point) => interval(point)[1]), ...back.map((point) => interval(point)[0])],
    line: { width: 0, color: line.color }, fillcolor: `${line.color}24`,
  };
}

function singles(line, axis) {
  const points = drawn(line.runs, axis);
  return {
    ...hoverer, type: "scatter", mode: "markers", name: `${line.label}, runs`, meta: line.key,
    x: points.map((point) => place(point, axis)), y: points.map((point) => 100 * point.accuracy),
    text: points.map((point) => hover(line, point)), marker: { color: line.color, size: 5, opacity: 0.55 },
  };
}

function printed(panel, axis) {
  const full = panel.arms[0].means[0].dense_macs;
  const points = drawn(panel.paper.map((point) => ({ ...point, dense_macs: full })), axis);
  const text = points.map(({ method, item, source, printed: said }) => [
    `<b>${escaped(method)}</b>, as printed`, escaped([item, source].filter(Boolean).join(", ")),
    ...Object.entries(said).filter(([, value]) => value).map(([name, value]) => `${name}: ${escaped(value)}`),
  ].join("<br>"));
  return {
    ...hoverer, type: "scatter", mode: "markers", name: "paper", text,
    x: points.map((point) => place(point, axis)), y: points.map((point) => 100 * point.accuracy),
    marker: { symbol: "hexagram-open", size: 12, color: "#000000", line: { color: "#000000", width: 1.5 } },
  };
}

// Limits of the y axis: all points, and of the intervals as much again; those of few seeds are wider than all else.
function frame(traces, nets) {
  const full = nets.flatMap((net) => net.means).map((net) => 100 * net.accuracy);
  const points = [...traces.filter((trace) => !trace.fill).flatMap((trace) => trace.y), ...full];
  if (!points.length) return undefined;
  const ends = traces.flatMap(({ y, error_y: bar }) => (bar ? y.flatMap((mean, i) => [mean - bar.arrayminus[i], mean + bar.array[i]]) : y));
  const [low, high] = [Math.min(...points), Math.max(...points)];
  const span = Math.max(high - low, 1);
  const [least, most] = [Math.min(low, ...ends), Math.max(high, ...ends)];
  const air = 0.05 * Math.max(most - least, 1);
  return [Math.max(least - air, low - span, 0), Math.min(most + air, high + span, 100.5)];
}

// The lowest and the highest cost.
function extent(traces) {
  const costs = traces.flatMap((trace) => trace.x).filter((x) => x > 0);
  return [Math.min(...costs), Math.max(...costs)];
}

// A logarithmic axis has its ticks at 1, 2, 5, 10, 20, ..., each written out; plotly would write 20 as 2.
function scale(traces) {
  if (!checked("log")) return { type: "linear", rangemode: "tozero" };
  const [low, high] = extent(traces);
  return { type: "log", tickformat: "~g", dtick: high >= 5 * low ? "D2" : undefined };
}

function layout(traces, nets, axis, width) {
  const title = width < 480 ? data.axes[axis].title.replace(" (", "<br>(") : data.axes[axis].title;
  const line = (net, accuracy) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: accuracy, y1: accuracy, layer: "below", line: { color: GREY, width: 0.8, dash: net.dash } });
  const axes = { zeroline: false, ticks: "outside", tickcolor: GREY, linecolor: GREY, showline: true, automargin: true };
  return {
    margin: { l: 50, r: 14, t: 26, b: 46 }, showlegend: false, hovermode: "closest", dragmode: coarse ? false : "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)" },
    xaxis: { ...axes, title: { text: title }, ...scale(traces) },
    yaxis: { ...axes, title: { text: "test accuracy (%)" }, range: frame(traces, nets) },
    shapes: nets.flatMap((net) => net.means.map((point) => line(net, 100 * point.accuracy))),
  };
}

const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], displayModeBar: coarse ? false : "hover" };

// Moves the lines of arms aside within a marker's width, so that bars at one cost can be told apart.
function fan(traces, arms, width) {
  const [low, high] = extent(traces);
  const step = FAN / width / Math.max(arms.length - 1, 1);
  arms.forEach((arm, number) => {
    const share = (number - (arms.length - 1) / 2) * step;
    const move = checked("log") ? (x) => x * (high / low) ** share : (x) => x + high * share;
    for (const trace of traces.filter((one) => one.meta === arm.key)) trace.x = trace.x.map(move);
  });
}

function draw() {
  const axis = document.getElementById("axis").value;
  const shown = new Set();
  for (const figure of find("[data-panel]")) {
    const panel = data.panels[figure.dataset.panel];
    const arms = figure.hidden ? [] : panel.arms.filter((arm) => passes(arm.words));
    figure.hidden = !arms.length;
    if (figure.hidden) continue;
    const nets = checked("dense") ? panel.dense.filter((net) => passes(net.words)) : [];
    for (const line of [...arms, ...nets]) shown.add(line.key);
    const wide = (arm) => drawn(arm.means, axis).filter((point) => point.accuracy_high != null).length > 1;
    const traces = [
      ...(checked("intervals") && arms.length <= BANDS ? arms.filter(wide).map((arm) => band(arm, axis)) : []),
      ...(checked("singles") ? arms.map((arm) => singles(arm, axis)) : []),
      ...nets.map((net) => mean(net, axis)),
      ...arms.map((arm) => mean(arm, axis)),
      ...(checked("printed") && panel.paper.length ? [printed(panel, axis)] : []),
    ];
    const plot = figure.querySelector(".plot");
    if (checked("fan") && traces.some((trace) => trace.error_y)) fan(traces, arms, plot.clientWidth);
    Plotly.react(plot, traces, layout(traces, nets, axis, plot.clientWidth), config);
  }
  for (const item of find("[data-key]")) item.hidden = !shown.has(item.dataset.key);
  for (const column of find("#legend > div")) column.hidden = !column.querySelector("li:not([hidden])");
}

async function load() {
  const letters = atob(document.getElementById("plotly").textContent);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

// ------------------------------------------------------------------------------------- tables

// "0.02G" of a paper, "93.94 ± 0.49" and "3.6e-07" alike.
function value(text) {
  const [, letter] = text.match(/^[\d.]+\s*([KMG])/) ?? [];
  return parseFloat(text) * ({ K: 1e3, M: 1e6, G: 1e9 }[letter] ?? 1);
}

function sort(heading) {
  const table = heading.closest("table");
  const turn = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of find("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
  const isText = heading.classList.contains("text");
  const key = (row) => row.cells[heading.cellIndex].textContent;
  const body = table.tBodies[0];
  const compare = (one, other) => {
    const [a, b] = [key(one), key(other)];
    if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1); // what is not known stays below
    return turn * (isText ? a.localeCompare(b, "en", { numeric: true }) : value(a) - value(b));
  };
  body.append(...Array.from(body.rows).sort(compare));
}

function paint() {
  const kind = document.getElementById("kind")?.value;
  for (const table of find(".heat")) {
    const worse = (cell) => (kind === "drop" ? Number(cell.dataset.drop) : 100 - Number(cell.dataset.accuracy));
    const cells = find(".cell", table).filter((cell) => cell.dataset[kind]);
    const most = Math.max(...cells.map((cell) => Math.abs(worse(cell))), 1e-9);
    for (const cell of find(".cell", table)) {
      cell.textContent = cell.dataset[kind];
      const heat = cell.dataset[kind] ? worse(cell) : 0;
      cell.style.setProperty("--heat", (0.75 * Math.abs(heat)) / most);
      cell.style.setProperty("--hue", heat < 0 ? "var(--good)" : "var(--bad)");
    }
  }
}

// -------------------------------------------------------------------------------------- start

function update() {
  filter();
  if (window.Plotly) draw();
}

function turn(name, on) {
  for (const box of find(`.filter input[name="${CSS.escape(name)}"]`)) box.checked = on;
  update();
}

const controls = document.getElementById("controls");
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("change", update);
for (const button of find("[data-all]")) button.addEventListener("click", () => turn(button.dataset.all, true));
for (const button of find("[data-none]")) button.addEventListener("click", () => turn(button.dataset.none, false));
for (const heading of find("thead th")) heading.firstElementChild.addEventListener("click", () => sort(heading));
document.getElementById("kind")?.addEventListener("change", paint);
paint();
filter();
load().then(draw).then(
  () => { document.documentElement.dataset.ready = "yes"; },
  (error) => { document.getElementById("trouble").hidden = false; console.error(error); },
);
