"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
/* The view that a link asks for, before the first drawing states its own. */
const openedWith = location.hash;
const BOX_COLOURS = ["#D55E00", "#0072B2"];

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => element("option", { value, textContent: text })));
  if (options.some(([value]) => String(value) === before)) select.value = before;
}

/* ---- curves ---------------------------------------------------------------------------- */

const CONDITION = data.condition_columns;
const sameOn = (names, a, b) => names.every((name) => (a[name] ?? null) === (b[name] ?? null));
$("rate-name").textContent = data.rate[0];
const metricChosen = () => data.metrics[Number($("metric").value)];

function fillPlaces() {
  const places = data.conditions.flatMap((condition) => condition.places);
  const clips = [...new Set(places.map(([clip]) => clip))];
  fill($("clip"), clips.map((clip) => [clip, data.clip_names[clip] ?? clip]));
  const gops = [...new Set(places.filter(([clip]) => clip === $("clip").value).map(([, gop]) => gop))];
  fill($("gop"), gops.map((gop) => [gop, gop]));
}

/* Place of the condition in the middle of the first channel's, from the lowest SNR to the highest, at one SNR from
   the largest error of the estimate or loss to the smallest; of an even number the better of the two. */
function middlePlace(places) {
  const of = (place) => data.conditions[place];
  const alike = places.filter((place) => of(place).channel === of(places[0]).channel);
  const error = (place, name) => of(place)[name] ?? -Infinity; /* null: a perfect estimate, no loss */
  const order = (a, b) => Math.sign(a - b) || 0;
  alike.sort((a, b) => order(of(a).snr_db, of(b).snr_db)
    || order(error(b, "csi_nmse_db"), error(a, "csi_nmse_db")) || order(error(b, "loss_rate"), error(a, "loss_rate")));
  return alike[Math.floor(alike.length / 2)];
}

/* Conditions at the chosen place; over a channel axis, those that differ on it are one entry. What was
   chosen before stays chosen where it is among them; else it is the middle one of the first channel. */
function fillConditions() {
  const axis = $("axis").value;
  const before = data.conditions[$("condition").value || -1];
  const entries = [];
  data.conditions.forEach((condition, index) => {
    if (!condition.places.some(([clip, gop]) => clip === $("clip").value && String(gop) === $("gop").value)) return;
    const others = CONDITION.filter((name) => name !== axis);
    if (axis === "cbr") entries.push([index, condition.words]);
    else if (!entries.some(([other]) => sameOn(others, data.conditions[other], condition)))
      entries.push([index, wordsWithout(condition, axis)]);
  });
  fill($("condition"), entries);
  if (!entries.length) return;
  const others = CONDITION.filter((name) => name !== axis);
  const kept = entries.find(([index]) => before && sameOn(others, data.conditions[index], before));
  $("condition").value = kept ? kept[0] : middlePlace(entries.map(([index]) => index));
}

function wordsWithout(condition, axis) {
  const hidden = { snr_db: /^SNR/, csi_nmse_db: /^(NMSE|perfect)/, coherence_length: /^coherence/, loss_rate: /^loss rate/ }[axis];
  return condition.words.split(", ").filter((part) => !hidden.test(part)).join(", ");
}

function curvesHere() {
  const axis = $("axis").value;
  const condition = data.conditions[Number($("condition").value)];
  const names = axis === "cbr" ? CONDITION : CONDITION.filter((name) => name !== axis);
  return data.curves.filter((curve) => condition && curve.clip === $("clip").value
    && String(curve.gop) === $("gop").value && sameOn(names, curve, condition));
}

/* Quality with at most `budget` CBR, linear in log CBR: the rule of the printed figures. */
function atBudget(curve, column, budget) {
  const points = curve.cbr.map((cbr, i) => [cbr, curve[column][i]]).filter(([, value]) => value !== null);
  if (!points.length || budget < points[0][0] * (1 - 1e-9)) return null;
  const above = points.findIndex(([cbr]) => cbr >= budget);
  if (above < 0) return points[points.length - 1][1];
  if (above === 0) return points[0][1];
  const [[x0, y0], [x1, y1]] = [points[above - 1], points[above]];
  return y0 + (y1 - y0) * Math.log(budget / x0) / Math.log(x1 / x0);
}

function budgetRange(curves) {
  const all = curves.flatMap((curve) => curve.cbr);
  return [Math.min(...all), Math.max(...all)];
}

function budgetChosen(curves) {
  const [low, high] = budgetRange(curves);
  return low * (high / low) ** (Number($("budget").value) / 100);
}

/* Puts the slider on the least CBR at which every curve has a value. */
function resetBudget() {
  const curves = curvesHere();
  if (!curves.length) return;
  const [low, high] = budgetRange(curves);
  const least = Math.max(...curves.map((curve) => curve.cbr[0]));
  $("budget").step = "any";
  $("budget").value = high > low ? 100 * Math.log(least / low) / Math.log(high / low) : 100;
}

function lines(curves, metric) {
  const axis = $("axis").value;
  if (axis === "cbr") {
    return curves.map((curve) => ({
      key: curve.curve, x: curve.cbr, y: curve[metric.column],
      low: curve[metric.column + "_low"], high: curve[metric.column + "_high"],
      text: curve.rate.map((rate, i) => `rate ${rate}, ${curve.num_seeds[i]} seed(s)`),
    }));
  }
  const budget = budgetChosen(curves);
  const perfect = Math.min(...curves.map((curve) => curve.csi_nmse_db).filter((value) => value !== null)) - 10;
  return [...new Set(curves.map((curve) => curve.curve))].map((key) => {
    const own = curves.filter((curve) => curve.curve === key)
      .map((curve) => ({ curve, x: curve[axis] ?? perfect }))
      .sort((a, b) => a.x - b.x);
    const values = (suffix) => own.map(({ curve }) => atBudget(curve, metric.column + suffix, budget));
    return { key, x: own.map(({ x }) => x), y: values(""), low: values("_low"), high: values("_high"),
      text: own.map(({ curve }) => (curve[axis] === null ? "perfect CSI" : "")) };
  });
}

function band(line, style) {
  const kept = line.x.map((_, i) => i).filter((i) => line.low[i] !== null && line.high[i] !== null);
  if (kept.length < 2) return [];
  return [{
    x: [...kept.map((i) => line.x[i]), ...kept.slice().reverse().map((i) => line.x[i])],
    y: [...kept.map((i) => line.high[i]), ...kept.slice().reverse().map((i) => line.low[i])],
    fill: "toself", fillcolor: style.colour + "2e", line: { width: 0 }, mode: "lines",
    type: "scatter", hoverinfo: "skip", showlegend: false, legendgroup: line.key,
  }];
}

function columnOf(name) {
  const found = data.points.columns.find((column) => column.name === name);
  if (!found) return () => (name in data.points.constant ? data.points.constant[name] : null);
  return (row) => (found.values ? found.values[row] : found.texts[found.codes[row]]);
}

/* Every row at the chosen place; with a channel axis, at all its values. */
function singlePoints(metric) {
  const axis = $("axis").value;
  const condition = data.conditions[Number($("condition").value)];
  const names = CONDITION.filter((name) => name !== axis);
  const [x, y, clip, gop, scheme] = [axis, metric.column, "clip", "gop", "scheme"].map(columnOf);
  const own = names.map((name) => [columnOf(name), condition[name]]);
  const rows = [];
  for (let row = 0; row < data.points.length; row++) {
    if (clip(row) === $("clip").value && String(gop(row)) === $("gop").value && y(row) !== null
      && own.every(([value, wanted]) => (value(row) ?? null) === wanted)) rows.push(row);
  }
  return [{
    x: rows.map(x), y: rows.map(y), text: rows.map(scheme), name: "every point", mode: "markers",
    type: rows.length > 2000 ? "scattergl" : "scatter", marker: { color: "#555", size: 4, opacity: 0.5 },
  }];
}

/* Ticks at 1, 2 and 5 of every decade, as in print. */
function decadeTicks(values) {
  const known = values.filter((value) => value > 0);
  if (!known.length) return {};
  const ticks = [];
  for (let power = Math.floor(Math.log10(Math.min(...known))); power <= Math.ceil(Math.log10(Math.max(...known))); power++)
    for (const step of [1, 2, 5]) ticks.push(Number((step * 10 ** power).toPrecision(1)));
  return { tickvals: ticks, ticktext: ticks.map(String) };
}

/* Colours that would vanish on a dark ground. */
const ON_DARK = { "#4B2E83": "#b79cf0", "#000000": "#e4e8ec", "#0072B2": "#4da6e0" };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw() {
  const metric = metricChosen();
  const axis = $("axis").value;
  $("budget-label").hidden = axis === "cbr";
  if (!metric) return note("No metric has a number, so there is no curve.");
  const curves = curvesHere();
  if (!curves.length) return note("No curve at this place.");
  const traces = $("singles").checked ? singlePoints(metric) : [];
  for (const line of lines(curves, metric)) {
    const style = { ...data.styles[line.key] };
    if (document.documentElement.dataset.theme === "dark") style.colour = ON_DARK[style.colour] ?? style.colour;
    if ($("bands").checked) traces.push(...band(line, style));
    traces.push({
      x: line.x, y: line.y, text: line.text, name: style.label, legendgroup: line.key,
      type: "scatter", mode: "lines+markers", line: { color: style.colour, dash: style.dash, width: 2 },
      marker: { symbol: style.symbol, size: 8, line: { color: colour("--paper"), width: 1 } },
      hovertemplate: `${style.label}<br>%{xaxis.title.text}: %{x:.4g}<br>${metric.label}: %{y:.4g}<br>%{text}<extra></extra>`,
    });
  }
  if (axis !== "cbr") $("budget-value").textContent = budgetChosen(curves).toPrecision(3);
  const logarithmic = axis === "cbr" || axis === "coherence_length";
  const grid = { gridcolor: colour("--grid"), zeroline: false };
  const better = metric.higher_is_better ? "higher is better" : "lower is better, axis reversed";
  note(axis === "cbr" ? `${metric.label}: ${better}. Means over seeds.`
    : `${metric.label}: ${better}. Each curve within the ${data.rate[0]} chosen; a gap means it cannot be sent for that.`);
  Plotly.react("plot", traces, {
    margin: { t: 20, r: 20, b: 60, l: 70 }, paper_bgcolor: colour("--paper"), plot_bgcolor: colour("--paper"),
    font: { color: colour("--ink") }, hovermode: "closest", showlegend: true,
    legend: { orientation: "h", yanchor: "top", y: innerWidth < 640 ? -0.3 : -0.18 },
    xaxis: { title: { text: axis === "cbr" ? data.rate[1] : data.axes[axis] },
      type: logarithmic ? "log" : "linear", ...grid, ...(logarithmic ? decadeTicks(traces.flatMap((trace) => trace.x)) : {}) },
    yaxis: { title: { text: metric.label }, autorange: metric.higher_is_better ? true : "reversed", ...grid },
  }, PLOT_OPTIONS);
  keepState();
}

/* No button may offer to upload unpublished results: what is shown stays on this machine. */
const PLOT_OPTIONS = {
  responsive: true, displaylogo: false, displayModeBar: true, showSendToCloud: false, plotlyServerURL: "",
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]],
};

/* ---- a link that keeps what was chosen, downloads, light and dark -------------------------- */

const STATE = ["axis", "clip", "gop", "condition", "metric", "budget", "comparison", "snr", "wipe-left", "wipe-right"];
const SWITCHES = ["bands", "singles"];

function keepState() {
  const words = new URLSearchParams();
  for (const id of STATE) if ($(id) && $(id).value !== "") words.set(id, $(id).value);
  for (const id of SWITCHES) words.set(id, $(id).checked ? "1" : "0");
  history.replaceState(null, "", "#" + words);
}

function readState(hash) {
  const words = new URLSearchParams(hash.slice(1));
  if (!words.has("metric")) return;
  const set = (id) => {
    if (!words.has(id) || !$(id)) return;
    $(id).value = words.get(id);
    $(id).dispatchEvent(new Event($(id).type === "range" ? "input" : "change"));
  };
  for (const id of SWITCHES) if (words.has(id)) $(id).checked = words.get(id) === "1";
  STATE.forEach((id) => set(id));
}

function save(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const cell = (value) => (/[",\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));

function shownCsv() {
  const metric = metricChosen(), axis = $("axis").value;
  const rows = [["scheme", axis, metric.column, "low", "high"]];
  for (const line of lines(curvesHere(), metric))
    line.x.forEach((x, i) => rows.push([data.styles[line.key].label, x, line.y[i], line.low[i], line.high[i]]));
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function rowsCsv() {
  const columns = data.points.columns;
  const values = columns.map((column) => columnOf(column.name));
  const lines = [columns.map((column) => column.name), ...order.map((row) => values.map((value) => value(row)))];
  return lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

/* An axis for pgfplots with what is shown: \usepackage{pgfplots}. */
function shownTikz() {
  const metric = metricChosen(), axis = $("axis").value;
  const tex = (text) => text.replace(/[&%#_{}$]/g, "\\$&");
  const plots = lines(curvesHere(), metric).map((line, place) => {
    const name = "curve" + String.fromCharCode(65 + place);
    const style = data.styles[line.key];
    const points = line.x.map((x, i) => [x, line.y[i]]).filter(([, y]) => y !== null).map(([x, y]) => `(${x},${y})`);
    return `\\definecolor{${name}}{HTML}{${style.colour.slice(1)}}\n`
      + `\\addplot[${name}, mark=*, ${TIKZ_DASHES[style.dash]}] coordinates {${points.join(" ")}};\n\\addlegendentry{${tex(style.label)}}`;
  });
  const options = [axis === "cbr" || axis === "coherence_length" ? "xmode=log" : "", metric.higher_is_better ? "" : "y dir=reverse",
    `xlabel={${tex(axis === "cbr" ? "CBR" : data.axes[axis])}}`, `ylabel={${tex(metric.label)}}`, "grid=major",
    "legend style={at={(0.5,-0.25)},anchor=north}"];
  return `% needs \\usepackage{pgfplots}\n\\begin{tikzpicture}\n\\begin{axis}[${options.filter(Boolean).join(", ")}]\n`
    + `${plots.join("\n")}\n\\end{axis}\n\\end{tikzpicture}\n`;
}

const TIKZ_DASHES = { solid: "solid", dash: "dashed", dot: "dotted", dashdot: "dash dot" };

function startPage() {
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const theme = (dark) => { document.documentElement.dataset.theme = dark ? "dark" : "light"; draw(); };
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
  wanted.addEventListener("change", (event) => theme(event.matches));
  readState(openedWith);
  addEventListener("hashchange", () => { readState(location.hash); draw(); });
  theme(wanted.matches);
  $("save-csv").addEventListener("click", () => save(`${data.name}_curves.csv`, shownCsv(), "text/csv"));
  $("save-tikz").addEventListener("click", () => save(`${data.name}.tex`, shownTikz(), "text/plain"));
  $("save-rows").addEventListener("click", () => save(`${data.name}_rows.csv`, rowsCsv(), "text/csv"));
  for (const format of ["png", "svg"]) {
    $("save-" + format).addEventListener("click", () =>
      Plotly.downloadImage("plot", { format, filename: data.name, width: 900, height: 600, scale: 2 }));
  }
  $("copy-link").addEventListener("click", async () => {
    keepState();
    try { await navigator.clipboard.writeText(location.href); $("copied").textContent = "copied"; }
    catch { $("copied").textContent = "copy it from the address bar"; }
  });
}

/* Heads of tables sort by keyboard too. */
function reachable(head) {
  head.tabIndex = 0;
  head.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    head.click();
  });
}

function note(text) { $("plot-note").textContent = text; }

function startCurves() {
  fill($("axis"), [["cbr", data.rate[0]], ...Object.entries(data.axes)]);
  fill($("metric"), data.metrics.map((metric, index) => [index, metric.title]));
  const refill = () => { fillPlaces(); fillConditions(); resetBudget(); draw(); };
  const perceptual = data.metrics.findIndex((metric) => !metric.higher_is_better);
  $("metric").value = Math.max(perceptual, 0);
  for (const id of ["axis", "clip", "gop"]) $(id).addEventListener("change", refill);
  $("condition").addEventListener("change", () => { resetBudget(); draw(); });
  for (const id of ["metric", "bands", "singles"]) $(id).addEventListener("change", draw);
  $("budget").addEventListener("input", draw);
  refill();
}

/* ---- frames ---------------------------------------------------------------------------- */

/* One object URL per picture: zooms, frames and comparisons share it instead of repeating the bytes. */
const pictureUrls = new Map();
function pictureUrl(place) {
  if (!pictureUrls.has(place)) {
    const [head, body] = data.pictures[place].split(",");
    const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
    pictureUrls.set(place, URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] })));
  }
  return pictureUrls.get(place);
}

/* Comparisons that differ in SNR alone are one entry of the list and share the slider. */
const seriesChosen = () => data.comparisons.filter((comparison) => comparison.series === $("comparison").value)
  .sort((a, b) => a.snr_db - b.snr_db);
const comparisonChosen = () => seriesChosen()[Number($("snr").value)];

/* The slider starts at the highest SNR. */
function showSeries() {
  const last = seriesChosen().length - 1;
  $("snr").max = last;
  $("snr").value = last;
  $("snr-label").hidden = last < 1;
  showComparison();
}

/* What is wiped stays chosen where the next comparison has it too. */
function showComparison() {
  const { pictures, snr_db, width, height } = comparisonChosen();
  $("snr-value").textContent = snr_db + " dB";
  const labels = pictures.map((picture) => picture.label);
  const before = ["wipe-left", "wipe-right"].map((id) => labels.indexOf($(id).selectedOptions[0]?.textContent));
  const names = labels.map((label, index) => [index, label]);
  fill($("wipe-left"), names);
  fill($("wipe-right"), names);
  const semantic = pictures.findIndex((picture, index) => index > 0 && /PVSC/.test(picture.label));
  $("wipe-left").value = Math.max(before[0], 0);
  $("wipe-right").value = before[1] >= 0 ? before[1] : Math.max(semantic, Math.min(1, pictures.length - 1));
  $("wipe").style.maxWidth = `min(960px, 100%, ${Math.round(75 * width / height)}vh)`;
  showWipe();
  showGallery();
  showVideo();
  keepState();
}

function showWipe() {
  const { pictures } = comparisonChosen();
  const [left, right] = ["wipe-left", "wipe-right"].map((id) => pictures[Number($(id).value)]);
  $("wipe-over").src = pictureUrl(left.uri);
  $("wipe-under").src = pictureUrl(right.uri);
  $("wipe-over").alt = left.label;
  $("wipe-under").alt = right.label;
  $("wipe-left-name").textContent = left.label;
  $("wipe-right-name").textContent = right.label;
  moveWipe();
}

function moveWipe() {
  const part = Number($("wipe-position").value);
  $("wipe-over").style.clipPath = `inset(0 ${100 - part}% 0 0)`;
  $("wipe-line").style.left = part + "%";
}

function dragWipe(event) {
  if (event.type === "pointerdown") $("wipe").setPointerCapture(event.pointerId);
  else if (!$("wipe").hasPointerCapture(event.pointerId)) return;
  const box = $("wipe").getBoundingClientRect();
  $("wipe-position").value = 100 * (event.clientX - box.left) / box.width;
  moveWipe();
}

function showGallery() {
  const comparison = comparisonChosen();
  $("gallery").replaceChildren(...comparison.pictures.map((picture) => {
    const url = pictureUrl(picture.uri);
    const frame = element("div", { className: "frame" }, [element("img", { src: url, alt: picture.label })]);
    const zooms = element("div", { className: "zooms" });
    comparison.boxes.forEach((box, index) => {
      frame.append(boxElement(box, index));
      zooms.append(zoomElement(url, box, index, comparison));
    });
    frame.addEventListener("click", (event) => moveBox(event, frame));
    return element("figure", {}, [frame, zooms, element("figcaption", {}, [
      element("b", { textContent: picture.label }), picture.caption])]);
  }));
}

function boxElement([left, top, width, height], index) {
  const made = element("div", { className: "box" });
  Object.assign(made.style, { left: 100 * left + "%", top: 100 * top + "%", width: 100 * width + "%",
    height: 100 * height + "%", borderColor: BOX_COLOURS[index] });
  return made;
}

function zoomElement(url, [left, top, width, height], index, comparison) {
  const made = element("div", { className: "zoom" });
  const place = (start, size) => (size < 1 ? 100 * start / (1 - size) : 0) + "%";
  Object.assign(made.style, { borderColor: BOX_COLOURS[index], backgroundImage: `url(${url})`,
    backgroundSize: `${100 / width}% ${100 / height}%`, backgroundPosition: `${place(left, width)} ${place(top, height)}`,
    aspectRatio: `${width * comparison.width} / ${height * comparison.height}` });
  return made;
}

function moveBox(event, frame) {
  const comparison = comparisonChosen();
  const area = frame.getBoundingClientRect();
  const [, , width, height] = comparison.boxes[0];
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  comparison.boxes[0] = [
    clamp((event.clientX - area.left) / area.width - width / 2, 1 - width),
    clamp((event.clientY - area.top) / area.height - height / 2, 1 - height), width, height];
  showGallery();
}

function startFrames() {
  $("frame-remarks").replaceChildren(...data.frame_remarks.map((text) => element("p", { className: "note", textContent: text })));
  if (!data.comparisons.length) return;
  $("frame-view").hidden = false;
  const series = [...new Set(data.comparisons.map((comparison) => comparison.series))];
  fill($("comparison"), series.map((title) => [title, title]));
  $("comparison").addEventListener("change", showSeries);
  $("snr").addEventListener("input", showComparison);
  for (const id of ["wipe-left", "wipe-right"]) $(id).addEventListener("change", () => { showWipe(); keepState(); });
  $("wipe-position").addEventListener("input", moveWipe);
  for (const type of ["pointerdown", "pointermove"]) $("wipe").addEventListener(type, dragWipe);
  startVideo();
  showSeries();
}

/* ---- videos ---------------------------------------------------------------------------- */

/* All schemes are tiles of one video, so that they cannot get out of step; each is drawn to its own canvas. */
function showVideo() {
  const { video, pictures } = comparisonChosen();
  $("video-view").hidden = !video;
  $("film").pause();
  if (!video) return;
  $("film-frame").max = video.frames - 1;
  $("film-note").textContent = `${video.frames} frames at ${+video.fps.toFixed(2)} per second, shown in a loop.`;
  $("tiles").replaceChildren(...pictures.map((picture) => element("figure", {}, [
    element("canvas", { width: video.width, height: video.height, role: "img", ariaLabel: picture.label }),
    element("figcaption", {}, [element("b", { textContent: picture.label }), picture.caption])])));
  $("film").src = video.file.split("/").map(encodeURIComponent).join("/");
}

function paintTiles() {
  const { video } = comparisonChosen();
  if (!video || $("film").readyState < 2) return;
  const { width, height, columns } = video;
  $("tiles").querySelectorAll("canvas").forEach((canvas, place) => canvas.getContext("2d").drawImage($("film"),
    place % columns * width, Math.floor(place / columns) * height, width, height, 0, 0, width, height));
  const frame = Math.min(Math.floor($("film").currentTime * video.fps + 1e-3), video.frames - 1);
  $("film-frame").value = frame;
  $("film-number").textContent = `${frame + 1} of ${video.frames}`;
}

function startVideo() {
  const film = $("film");
  const whilePlaying = () => { paintTiles(); if (!film.paused) requestAnimationFrame(whilePlaying); };
  const setSpeed = () => { film.playbackRate = Number($("speed").value); };
  for (const type of ["loadeddata", "seeked"]) film.addEventListener(type, paintTiles);
  film.addEventListener("loadeddata", setSpeed);
  film.addEventListener("play", () => { $("play").textContent = "Pause"; whilePlaying(); });
  film.addEventListener("pause", () => { $("play").textContent = "Play"; });
  film.addEventListener("error", () => {
    $("film-note").textContent = `The video ${comparisonChosen().video.file} is not beside this page, or cannot be played here.`;
  });
  $("speed").addEventListener("change", setSpeed);
  $("play").addEventListener("click", () => (film.paused ? film.play() : film.pause()));
  $("film-frame").addEventListener("input", () => {
    film.pause();
    film.currentTime = (Number($("film-frame").value) + 0.5) / comparisonChosen().video.fps;
  });
}

/* ---- tables ---------------------------------------------------------------------------- */

/* Numbers before text, empty cells last whichever the direction. */
function compare(a, b, ascending) {
  const empty = (value) => value === "" || value === null || value === undefined;
  if (empty(a) || empty(b)) return empty(a) - empty(b);
  const numbers = Number.isFinite(Number(a)) && Number.isFinite(Number(b));
  const order = numbers ? Number(a) - Number(b) : String(a).localeCompare(String(b));
  return ascending ? order : -order;
}

function markSorted(heads, chosen) {
  const ascending = chosen.getAttribute("aria-sort") !== "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  chosen.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  return ascending;
}

function startSorting() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach(reachable);
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const ascending = markSorted(heads, head);
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows];
      table.tBodies[0].append(...rows.sort((a, b) => compare(key(a), key(b), ascending)));
    }));
  }
}

const ROWS = 50;
let order = [], first = 0;

function showRows() {
  const shown = order.slice(first, first + ROWS);
  const columns = data.points.columns.map((column) => [column, columnOf(column.name)]);
  $("points-table").tBodies[0].replaceChildren(...shown.map((row) => element("tr", {}, columns.map(([column, value]) =>
    element("td", { className: column.values ? "number" : "", textContent: value(row) ?? "" })))));
  const last = Math.min(first + ROWS, order.length);
  $("page-number").textContent = order.length ? `${first + 1} to ${last} of ${order.length}` : "no rows";
}

function filterRows() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const searched = data.points.columns.filter((column) => !/(^point_id|_digest)$/.test(column.name));
  const values = searched.map((column) => columnOf(column.name));
  order = [];
  for (let row = 0; row < data.points.length; row++) {
    if (!words.length) { order.push(row); continue; }
    const text = values.map((value) => value(row) ?? "").join(" ").toLowerCase();
    if (words.every((word) => text.includes(word))) order.push(row);
  }
  first = 0;
  showRows();
}

function startPoints() {
  const head = $("points-table").tHead.rows[0];
  for (const column of data.points.columns) {
    const unit = column.unit ? ` (${column.unit})` : "";
    const cell = element("th", { textContent: column.name + unit, title: column.meaning });
    cell.addEventListener("click", () => {
      const ascending = markSorted([...head.cells], cell);
      const value = columnOf(column.name);
      order.sort((a, b) => compare(value(a), value(b), ascending));
      first = 0;
      showRows();
    });
    reachable(cell);
    head.append(cell);
  }
  const constant = Object.entries(data.points.constant).filter(([, value]) => value !== null && value !== "");
  $("constant").textContent = constant.length ? "The same in every row: " + constant.map(([name, value]) => `${name} = ${value}`).join(", ") : "";
  $("filter").addEventListener("input", filterRows);
  $("previous").addEventListener("click", () => { first = Math.max(first - ROWS, 0); showRows(); });
  $("next").addEventListener("click", () => { if (first + ROWS < order.length) first += ROWS; showRows(); });
  filterRows();
}

startPoints();
startSorting();
startFrames();
startCurves();
startPage();
