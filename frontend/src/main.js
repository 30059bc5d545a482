// The page: what is shown, and what keys, buttons and drops do.
import * as api from "./api.js";
import { fill } from "./findings.js";
import { listen } from "./keys.js";
import { drawRows } from "./rows.js";
import { saveCsv, saveDicom, savePng } from "./saving.js";
import { labels } from "./scale.js";
import { switchTheme } from "./theme.js";
import { Worklist, dropped, kind, misfit } from "./worklist.js";

const $ = (id) => document.getElementById(id);
const panes = [{ place: $("pane-a") }, { place: $("pane-b") }]; // each: place, viewer, film (of the worklist), chosen
let model = null;
let active = 0;
let comparing = false;
let tool = "window";

const work = new Worklist(() => {
  for (const pane of panes) if (pane.film?.state === "unpacked") close(pane);
  drawWorklist();
  if (panes[active].film) drawFindings();
  drawTools();
  if (!panes[0].film) openFirst();
});

function openFirst() {
  const of = (...states) => work.films.find((film) => states.includes(film.state));
  const first = of("done") ?? (of("queued", "running") ? null : of("refused"));
  if (first) open(first);
}

function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

function drawWorklist() {
  document.body.classList.toggle("empty", !work.films.length);
  const counts = { queued: 0, running: 0, done: 0, refused: 0 };
  for (const film of work.films) counts[film.state] += 1;
  say($("tally"), Object.entries(counts).filter(([, count]) => count).map(([state, count]) => `${count} ${state}`).join(", "));
  say($("away"), work.lost ? "The server does not answer. Films wait here and are sent when it is back." : "");
  const shown = panes.filter((_, k) => k === 0 || comparing).map((pane) => pane.film);
  drawRows($("films"), work.films, { calls: Boolean(model?.points.length), shown, open: (film) => open(film) });
}

function drawFindings() {
  const { film, chosen } = panes[active];
  const result = film?.result;
  const unknown = misfit(film);
  const forced = Boolean(result?.forced);
  const why = unknown && `${film.name} does not fit the model (${kind(film)}): ${unknown.slice(kind(film).length + 2)}.`;
  say($("gate-why"), unknown && `${forced ? "Do not rely on these scores." : "Not analysed."} ${why}`);
  $("gate").hidden = !unknown;
  $("anyway").hidden = !unknown || film.force;
  say($("findings-of"), comparing && film ? film.name : "");
  $("axis").hidden = !result?.findings.length;
  const refused = film?.state === "refused";
  say($("findings-note"), refused ? `Refused: ${film.why}` : !film ? "Open a film to see what the model says of it." : !result ? "The film is being read." : unknown && !forced ? "Not analysed: there are no scores." : "");
  $("findings-note").classList.toggle("refusal", Boolean(refused));
  fill($("list"), result?.findings ?? [], model, $("sort").value, chosen, choose);
  const heat = result?.findings.find((one) => one.finding === chosen)?.heatmap ?? null;
  $("heat-controls").hidden = !heat;
  panes[active].viewer?.overlay(panes[active].shown === film ? heat : null, $("opacity").value / 100, $("outline").checked);
  const scale = model.calibrated ? "Scores are calibrated: probabilities for films like those of the calibration." : "Scores are not calibrated: they are no probabilities.";
  const learned = model.simulated ? `The model was ${model.learned_from}. ` : "";
  $("legend").textContent = result?.findings.length ? `${learned}${scale} ${model.points.length ? "Line: threshold; hatched: indeterminate; the scale is of log-odds." : "This model has no thresholds, so there are no calls."}` : "";
}

function choose(finding) {
  panes[active].chosen = finding;
  drawFindings();
}

async function open(film, to = active) {
  const pane = panes[to];
  pane.film = film;
  pane.chosen = null;
  activate(to);
  drawWorklist();
  if (film.state === "refused") return blank(pane, `${film.name} was refused: ${film.why}`);
  pane.place.setAttribute("aria-label", `${film.name} is being opened`);
  try {
    const [pixels, { Viewer }] = await Promise.all([api.pixels(film.file), import("./viewer.js")]);
    if (pane.film !== film) return undefined;
    pane.place.classList.remove("blank");
    pane.viewer ??= new Viewer(`film-${to}`, pane.place, drawWindow, () => follow(to), tell);
    const other = panes[1 - to];
    await pane.viewer.show(film.id, pixels, linked() && other.shown ? other.viewer.window : null);
    if (pane.film !== film) return undefined;
    pane.viewer.use(tool);
    pane.shown = film;
    drawWindow(pane.viewer);
    film.dicom ??= (await film.file.slice(128, 132).text()) === "DICM";
    pane.place.setAttribute("aria-label", `Chest film ${film.name}, ${pixels.columns} by ${pixels.rows} pixels`);
    pane.place.querySelector(".title").textContent = film.name;
    drawTools();
    drawFindings();
  } catch (error) {
    if (pane.film === film) blank(pane, `${film.name}: ${error.message}`);
  }
  return undefined;
}

function close(pane) {
  pane.viewer?.close();
  Object.assign(pane, { film: null, chosen: null, viewer: null });
  blank(pane, "No film is open");
  pane.place.querySelector(".title").textContent = "";
}

function blank(pane, why) {
  pane.viewer?.overlay(null);
  pane.shown = null;
  pane.place.classList.add("blank");
  pane.place.setAttribute("aria-label", why);
  pane.place.querySelector(".title").textContent = why;
  pane.place.querySelector(".window").textContent = "";
  drawTools();
}

function drawWindow(viewer) {
  const [low, high] = viewer.window;
  const place = viewer.pane.querySelector(".window");
  if (!panes.some((pane) => pane.viewer === viewer && pane.shown)) return; // a refused film has none
  place.textContent = `window ${Math.round(100 * low)} to ${Math.round(100 * high)} %  ·  zoom ${viewer.port.getZoom().toFixed(1)}`;
}

const linked = () => comparing && $("linked").checked;

function follow(from) {
  const other = panes[1 - from];
  if (linked() && other.shown && panes[from].shown) other.viewer.setWindow(...panes[from].viewer.window);
  drawTools();
}

/** Say something over the film, and to screen readers. */
function tell(text) {
  $("said").textContent = text;
}

function activate(to) {
  active = to;
  panes.forEach((pane, k) => pane.place.classList.toggle("active", comparing && k === to));
  drawTools();
  if (model) drawFindings();
}

function drawTools() {
  const { shown, viewer } = panes[active];
  for (const button of document.querySelectorAll("#tools button, #tools select")) button.disabled = !shown;
  const ruler = document.querySelector("[data-tool=ruler]");
  const known = Boolean(shown && viewer.film.spacing);
  ruler.disabled = !known;
  ruler.title = known ? "Drag: measure in mm (R)" : "The file does not say how large its pixels are";
  if (!known && tool === "ruler") use("window");
  $("save-dicom").disabled = !(shown?.dicom && model.dicom);
  $("save-dicom").title = shown?.dicom ? "Structured report and picture, as DICOM" : "For DICOM films";
  $("compare").disabled = !comparing && work.films.filter((film) => film.state === "done").length < 2;
  $("invert").setAttribute("aria-pressed", String(Boolean(viewer?.inverted)));
  $("preset").value = shown ? viewer.named : "full";
}

function use(name) {
  tool = name;
  for (const pane of panes) pane.viewer?.use(name);
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", String(button.dataset.tool === name));
  tell(name === "ruler" ? "Drag over the film; or press Enter on it, and arrow keys." : "");
}

function ruler() {
  if (document.querySelector("[data-tool=ruler]").disabled) return;
  use("ruler");
  panes[active].place.focus();
}

function compare() {
  comparing = !comparing;
  $("pane-b").hidden = !comparing;
  $("panes").classList.toggle("two", comparing);
  $("linked-label").hidden = !comparing;
  $("compare").setAttribute("aria-pressed", String(comparing));
  if (!comparing) activate(0);
  else if (!panes[1].film || panes[1].film === panes[0].film) {
    const done = work.films.filter((film) => film.state === "done");
    open(done[(done.indexOf(panes[0].film) + 1) % done.length], 1);
  } else activate(1);
  drawWorklist();
}

function step(by) {
  if (!work.films.length) return;
  const at = work.films.indexOf(panes[active].film);
  open(work.films[(at + by + work.films.length) % work.films.length]);
}

async function examples() {
  const numbers = [0, 1, 2, 3, 4, 5];
  try {
    work.add(await Promise.all(numbers.map(api.example)));
  } catch (error) {
    say($("away"), error.message);
  }
}

async function dicom() {
  try {
    await saveDicom(panes[active].film, work.point);
  } catch (error) {
    say($("away"), error.message);
  }
}

function clear() {
  if (comparing) compare();
  work.films = [];
  panes.forEach(close);
  work.next();
  if (model) drawFindings();
  $("choose").focus();
}

const withFilm = (action) => () => panes[active].shown && action(panes[active].viewer);
const KEYS = {
  n: () => step(1), b: () => step(-1), a: () => $("files").click(), "?": () => $("help").showModal(),
  w: () => use("window"), p: () => use("pan"), z: () => use("zoom"), m: () => use("magnify"),
  r: ruler,
  i: withFilm((viewer) => (viewer.invert(), drawTools())), o: withFilm((viewer) => viewer.rotate()),
  f: withFilm((viewer) => viewer.fit()), u: fullScreen, h: () => choose(null),
  c: () => !$("compare").disabled && compare(),
  "+": withFilm((viewer) => viewer.zoom(1.25)), "=": withFilm((viewer) => viewer.zoom(1.25)), "-": withFilm((viewer) => viewer.zoom(0.8)),
};
["full", "auto", "lungs", "bones"].forEach((name, k) => {
  KEYS[String(k + 1)] = withFilm((viewer) => viewer.preset(name));
});
function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("room").requestFullscreen?.();
}

listen(KEYS, panes, () => tool);
panes.forEach((pane, k) => {
  pane.place.addEventListener("pointerdown", () => {
    pane.place.focus({ preventScroll: true }); // so that keys mean the film that was touched
    if (active !== k) activate(k);
  }, true);
  pane.place.addEventListener("focus", () => comparing && active !== k && activate(k));
  pane.place.addEventListener("contextmenu", (event) => event.preventDefault());
});
for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => use(button.dataset.tool));
const clicks = {
  invert: KEYS.i, rotate: KEYS.o, fit: KEYS.f, full: fullScreen, compare, "save-png": () => savePng(panes[active]), "save-dicom": dicom, "heat-off": KEYS.h, clear, examples,
  anyway: () => panes[active].film && work.force(panes[active].film),
  choose: () => $("files").click(), more: () => $("files").click(), "choose-folder": () => $("folder").click(),
  "help-open": () => $("help").showModal(), theme: switchTheme,
  "save-csv": () => saveCsv(work.films, model),
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
for (const id of ["files", "folder"]) {
  $(id).addEventListener("change", () => {
    work.add([...$(id).files]);
    $(id).value = "";
  });
}
$("preset").addEventListener("change", withFilm((viewer) => viewer.preset($("preset").value)));
$("point").addEventListener("change", () => work.at($("point").value));
$("linked").addEventListener("change", () => follow(active));
for (const id of ["sort", "outline", "opacity"]) $(id).addEventListener("input", drawFindings);
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", kind === "dragenter" || kind === "dragover");
  });
}
document.addEventListener("drop", async (event) => work.add(await dropped(event.dataTransfer)));
$("token-dialog").addEventListener("close", () => {
  api.useToken($("token").value);
  $("token").value = "";
  begin();
});

async function begin() {
  try {
    model = await api.model();
  } catch (error) {
    if (error.status === 401) return $("token-dialog").showModal();
    say($("away"), `${error.message} Reload this page when it is back.`);
    return undefined;
  }
  $("model").textContent = `${model.name} · ${model.engine} · ${model.size} px`;
  $("learned").textContent = model.learned_from && ` · ${model.learned_from.split(":")[0]}`;
  $("learned").title = model.learned_from;
  $("point").replaceChildren(...model.points.map((name) => new Option(name, name)));
  $("point-label").hidden = !model.points.length;
  work.point = model.points[0] ?? null;
  drawTools();
  drawFindings();
  document.body.dataset.ready = "";
  return undefined;
}

$("axis").append(...labels());
drawWorklist();
begin();
