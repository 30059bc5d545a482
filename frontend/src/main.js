// The page: what is shown, and what keys, buttons and drops do.
import * as api from "./api.js";
import { draft, saidOf } from "./draft.js";
import { about, fill, sorted } from "./findings.js";
import { ahead, forgetGreys, greys } from "./greys.js";
import { drawIcons } from "./icons.js";
import { allow, forgetList, isKept, keepList, keptList } from "./kept.js";
import { listen } from "./keys.js";
import { listed, partner } from "./order.js";
import { drawRows } from "./rows.js";
import { saveCsv, saveDicom, savePng, saveReadings, saveSigned, signable } from "./saving.js";
import { labels } from "./scale.js";
import { switchTheme } from "./theme.js";
import "./tips.js";
import { rove } from "./toolbar.js";
import { forgetViews, recall, remember } from "./views.js";
import { words } from "./words.js";
import { Worklist, dropped, kind, misfit } from "./worklist.js";

const $ = (id) => document.getElementById(id);
const panes = [{ place: $("pane-a") }, { place: $("pane-b") }]; // each: place, viewer, film (of the worklist), chosen, shown
const NARROW = matchMedia("(max-width: 78rem) and (min-width: 66.01rem)"); // where the worklist would take the film's place
const NARROW_FOR_TWO = matchMedia("(max-width: 110rem) and (min-width: 66.01rem)");
let model = null;
let active = 0;
let comparing = false;
let linking = true;
let marking = true;
let tool = "window";
let drawing = 0;
let keptFilms = 0;
let visible = []; // the films of the worklist as they are listed
const RETRY_MS = 3000;
const SIGNER = "hilum-reader"; // in this tab

const work = new Worklist(() => {
  if (work.films.length !== keptFilms) keepList(work.films);
  keptFilms = work.films.length;
  drawing ||= requestAnimationFrame(drawWork); // however many films change at once
});

function drawWork() {
  drawing = 0;
  for (const pane of panes) if (pane.film?.state === "unpacked") close(pane);
  drawWorklist();
  if (panes[active].film) drawFindings();
  drawTools();
  if (!panes[0].film) openFirst();
  else fetchAhead();
}

function openFirst() {
  const first = work.films.find((film) => film.state !== "refused") ?? work.films[0];
  if (first?.single || first?.state === "refused") open(first);
}

function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

function drawWorklist() {
  document.body.classList.toggle("empty", !work.films.length);
  const counts = { queued: 0, running: 0, done: 0, refused: 0 };
  for (const film of work.films) counts[film.state] += 1;
  $("save-signed").disabled = !model?.dicom || !signable(work.films).length;
  $("save-signed").setAttribute("aria-label", $("save-signed").disabled ? words.notSigned : words.saveSigned);
  say($("tally"), words.tally(counts));
  say($("away"), work.lost ? words.away : "");
  const shown = panes.filter((_, k) => k === 0 || comparing).map((pane) => pane.film);
  const asked = { text: $("filter").value, show: $("show").value, of: $("of").value, order: $("order").value };
  visible = listed([...work.films], asked);
  $("none").hidden = Boolean(visible.length) || !work.films.length;
  drawRows($("films"), visible, { calls: Boolean(model?.points.length), shown, byPatient: asked.order === "patient", open: (film) => open(film) });
}

function drawFindings() {
  const { film, chosen } = panes[active];
  const result = film?.result;
  const unknown = misfit(film);
  const forced = Boolean(result?.forced);
  say($("gate-why"), unknown && words.misfit(film.name, kind(film), unknown.slice(kind(film).length + 2), forced));
  $("gate").hidden = !unknown;
  $("anyway").hidden = !unknown || film.force;
  say($("findings-of"), comparing && film ? film.name : "");
  const findings = result?.findings ?? [];
  $("axis").hidden = !findings.length;
  $("triage").hidden = $("sort").value !== "triage";
  say($("findings-note"), noteOf(film, findings));
  $("findings-note").classList.toggle("refusal", film?.state === "refused");
  fill($("list"), findings, model, $("sort").value, chosen, choose);
  drawDetail(findings, chosen);
  drawOpinion(film, findings.find((one) => one.finding === chosen));
  $("draft-open").disabled = !findings.length;
  $("legend").textContent = findings.length ? legend() : "";
  for (const pane of panes) drawRegions(pane);
}

function noteOf(film, findings) {
  if (film?.state === "refused") return words.refusedWhy(film.why);
  if (!film) return words.noResult;
  if (!film.result) return words.reading;
  if (!findings.length) return words.notAnalysed;
  const called = (call) => sorted(findings, model, "finding").filter((one) => one.call === call && (call === "present" || one.region)).map((one) => one.finding);
  return model.points.length ? words.summary(called("present"), called("indeterminate")) : "";
}

function drawDetail(findings, chosen) {
  const one = findings.find(({ finding }) => finding === chosen);
  const lines = one ? [words.finding(chosen), ...about(one, model)] : findings.length ? [words.detailHint] : [];
  if ($("detail").dataset.said === lines.join()) return;
  $("detail").dataset.said = lines.join();
  $("detail").replaceChildren(
    ...lines.map((line, k) => {
      const made = document.createElement(one && !k ? "h3" : "p");
      made.textContent = line;
      return made;
    }),
  );
}

/** What the reader thinks of the chosen finding: agreement with its call, or, where there is none, present or absent. */
function drawOpinion(film, one) {
  $("opinion").hidden = !one;
  if (!one) return;
  const own = film.reading[one.finding] ?? {};
  const called = { present: "present", absent: "absent" }[one.call];
  const [first, second] = called === "absent" ? ["absent", "present"] : ["present", "absent"];
  for (const [id, value, said] of [["agree", first, called ? words.agree : words.say], ["disagree", second, called ? words.disagree : words.say]]) {
    $(id).textContent = said[value];
    $(id).dataset.present = value === "present" ? 1 : 0;
    $(id).setAttribute("aria-pressed", String(own.present === Number($(id).dataset.present)));
  }
  if (document.activeElement !== $("comment")) $("comment").value = own.comment ?? "";
}

/** Note the reader's label of the chosen finding; the same again takes it back. */
function judge(id) {
  const { film, chosen } = panes[active];
  if (!film || $("opinion").hidden) return;
  const present = Number($(id).dataset.present);
  note(film, chosen, { present: film.reading[chosen]?.present === present ? undefined : present });
}

function note(film, finding, part) {
  const noted = { ...film.reading[finding], ...part };
  if (noted.present === undefined && !noted.comment) delete film.reading[finding];
  else film.reading[finding] = noted;
  keepList(work.films);
  drawWorklist();
  drawFindings();
}

function legend() {
  return [
    model.simulated && words.learned(model.learned_from),
    model.calibrated ? words.calibrated : words.uncalibrated,
    model.points.length ? words.scale : words.noThresholds,
    model.regions ? words.regionsValidated(model.regions) : words.regionsUnvalidated,
  ].filter(Boolean).join(" ");
}

/** The regions on a film: of the chosen finding, or of all above their thresholds; where that is not known, of the chosen one. */
function drawRegions(pane) {
  if (!pane.viewer) return;
  const findings = pane.shown && pane.shown === pane.film && marking ? (pane.film.result?.findings ?? []) : [];
  const marked = findings.filter((one) => one.region && (pane.chosen ? one.finding === pane.chosen : one.call !== "indeterminate"));
  pane.viewer.mark(marked.map((one) => ({ label: words.region(one), outlines: one.region.outlines, dashed: one.call === "indeterminate" })));
  if (pane.shown) pane.place.querySelector(".title").textContent = [pane.shown.name, ...saidOf(pane.shown)].join(" · ");
  const one = findings.find(({ finding }) => finding === pane.chosen);
  pane.place.querySelector(".chosen").textContent = one ? words.chosen(one) : "";
  pane.place.querySelector(".doubt").textContent = marked.length && !model.regions ? words.regionsUnvalidated : "";
}

function choose(finding) {
  if (finding) marking = true;
  for (const [k, pane] of panes.entries()) if (k === active || comparing) pane.chosen = finding;
  drawFindings();
  drawTools();
  keep(panes[active]);
}

function stepFinding(by) {
  const names = [...$("list").querySelectorAll("button")].map((one) => one.dataset.finding);
  if (!names.length) return;
  const at = names.indexOf(panes[active].chosen);
  choose(names[at < 0 ? (by > 0 ? 0 : names.length - 1) : (at + by + names.length) % names.length]);
  reveal($("findings"), $("list").querySelector("[aria-pressed=true]"));
}

/** Scroll a panel, never the page, until a row of it is seen. */
function reveal(panel, row) {
  if (!row || panel.scrollHeight <= panel.clientHeight) return;
  const [around, at] = [panel.getBoundingClientRect(), row.getBoundingClientRect()];
  panel.scrollTop += Math.min(0, at.top - around.top - 40) + Math.max(0, at.bottom - around.bottom + 40);
}

/** Remember how a film is seen. */
function keep(pane) {
  if (pane.shown && pane.shown === pane.film && pane.viewer.seen) remember(pane.film, { ...pane.viewer.view, chosen: pane.chosen });
}

async function open(film, to = active) {
  const pane = panes[to];
  keep(pane);
  Object.assign(pane, { film, chosen: comparing ? panes[1 - to].chosen : (film.view?.chosen ?? null) });
  activate(to);
  drawWorklist();
  reveal($("worklist"), $("films").querySelector("[aria-current]"));
  if (film.state === "refused") return blank(pane, words.wasRefused(film.name, film.why));
  pane.place.setAttribute("aria-label", words.opening(film.name));
  pane.retrying = false;
  if (tool !== "ruler") tell("");
  try {
    const [pixels, view, { Viewer }] = await Promise.all([greys(film), recall(film), import("./viewer.js")]);
    if (pane.film !== film) return undefined;
    pane.place.classList.remove("blank");
    pane.viewer ??= new Viewer(`film-${to}`, pane.place, drawWindow, () => changed(to), tell);
    const other = panes[1 - to];
    pane.shown = null;
    pixels.detector = film.result?.header?.detector ?? true;
    await pane.viewer.show(film.id, pixels, view);
    if (pane.film !== film) return undefined;
    if (isLinked() && other.shown) pane.viewer.follow(other.viewer);
    pane.viewer.use(tool);
    pane.shown = film;
    if (!comparing) pane.chosen = view?.chosen ?? null;
    drawWindow(pane.viewer);
    film.dicom ??= await isDicom(film);
    if (pane.film !== film) return undefined;
    pane.place.setAttribute("aria-label", words.shown(film.name, pixels.columns, pixels.rows));
    drawTools();
    drawFindings();
    fetchAhead();
  } catch (error) {
    if (pane.film !== film) return undefined;
    blank(pane, words.failed(film.name, error.message));
    if (error instanceof api.AwayError) {
      pane.retrying = true;
      setTimeout(() => pane.retrying && pane.film === film && open(film, to), RETRY_MS);
    }
  }
  return undefined;
}

function close(pane) {
  pane.viewer?.close();
  Object.assign(pane, { film: null, chosen: null, viewer: null });
  blank(pane, words.noFilm);
  pane.place.querySelector(".title").textContent = "";
}

function blank(pane, why) {
  pane.viewer?.mark([]);
  pane.shown = null;
  pane.place.classList.add("blank");
  pane.place.setAttribute("aria-label", why);
  pane.place.querySelector(".title").textContent = why;
  for (const name of [".window", ".doubt", ".chosen"]) pane.place.querySelector(name).textContent = "";
  drawTools();
}

function drawWindow(viewer) {
  const pane = panes.find((one) => one.viewer === viewer);
  if (!pane?.shown) return; // a refused film has none
  const [low, high] = viewer.window;
  const { ratio } = viewer.ruler;
  const text = words.windowed(words.windowNames[viewer.named], low, high, viewer.scale * (window.devicePixelRatio || 1)) + (ratio === null ? "" : ` · ${words.ratio(ratio, viewer.ruler.placed)}`);
  const place = pane.place.querySelector(".window");
  if (place.textContent !== text) place.textContent = text;
}

const isLinked = () => comparing && linking;

/** The reader changed how a film is seen. */
function changed(from) {
  const [pane, other] = [panes[from], panes[1 - from]];
  if (!pane.shown) return;
  if (isLinked() && other.shown) other.viewer.follow(pane.viewer);
  drawTools();
  keep(pane);
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

const settleTools = rove($("tools"));

function drawTools() {
  const { shown, viewer } = panes[active];
  for (const button of document.querySelectorAll("#tools button, #preset")) button.disabled = !shown;
  document.querySelector("[data-tool=ruler]").setAttribute("aria-label", !shown || viewer.film.spacing ? words.ruler : words.rulerPixels);
  $("save-dicom").disabled = !(shown?.dicom && model.dicom);
  $("save-dicom").setAttribute("aria-label", shown?.dicom ? words.saveDicom : words.notDicom);
  $("compare").disabled = !comparing && work.films.filter((film) => film.state === "done").length < 2;
  $("invert").setAttribute("aria-pressed", String(Boolean(shown && viewer.inverted)));
  $("regions").setAttribute("aria-pressed", String(marking));
  $("linked").setAttribute("aria-pressed", String(linking));
  $("preset").value = shown ? viewer.named : "auto";
  settleTools();
}

function use(name) {
  tool = name;
  for (const pane of panes) pane.viewer?.use(name);
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", String(button.dataset.tool === name));
  tell(name === "ruler" ? words.rulerHint : "");
}

function ruler() {
  use("ruler");
  panes[active].place.focus();
}

function mark() {
  marking = !marking;
  drawFindings();
  drawTools();
}

function compare() {
  comparing = !comparing;
  if (NARROW_FOR_TWO.matches) fold("worklist", comparing || NARROW.matches);
  $("pane-b").hidden = !comparing;
  $("panes").classList.toggle("two", comparing);
  $("linked").hidden = !comparing;
  $("compare").setAttribute("aria-pressed", String(comparing));
  if (!comparing) activate(0);
  else if (!panes[1].film || panes[1].film === panes[0].film) {
    open(partner(panes[0].film, visible.length > 1 ? visible : work.films) ?? panes[0].film, 1);
  } else activate(1);
  drawWorklist();
}

function link() {
  linking = !linking;
  changed(active);
  drawTools();
}

/** The film so many rows after one. */
function beside(film, by) {
  const at = visible.indexOf(film);
  return visible[at < 0 ? 0 : (at + by + visible.length) % visible.length];
}

function fetchAhead() {
  const { film, shown } = panes[active];
  if (!film || film !== shown || visible.length < 2) return;
  for (const by of [1, -1]) prepare(beside(film, by));
}

const isDicom = async (film) => (await film.file.slice(128, 132).text()) === "DICM";

/** All that showing a film asks of server and disk, before it is opened. */
async function prepare(film) {
  if (film.state !== "done") return;
  ahead(film);
  if (film.dicom !== undefined) return;
  try {
    film.dicom = await isDicom(film);
    await recall(film);
  } catch {
    film.dicom = undefined; // the file is gone or locked: said when the film is opened
  }
}

function step(by) {
  if (visible.length) open(beside(panes[active].film, by));
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

function sign() {
  $("signer").value = sessionStorage.getItem(SIGNER) ?? "";
  $("signing-text").textContent = words.signText(signable(work.films).length);
  $("signing").showModal();
}

async function signed() {
  sessionStorage.setItem(SIGNER, $("signer").value.trim());
  try {
    await saveSigned(work.films, $("signer").value.trim(), work.point);
  } catch (error) {
    say($("away"), error.message);
  }
}

function clear() {
  $("clearing").returnValue = "";
  if (work.films.length) $("clearing").showModal();
}

function forget() {
  if (comparing) compare();
  work.films = [];
  panes.forEach(close);
  forgetGreys();
  forgetViews();
  sessionStorage.removeItem(SIGNER);
  forgetList();
  work.next();
  if (model) drawFindings();
  drawWorklist();
  $("choose").focus();
}

/** Fold a panel, or show it. */
function fold(name, folded = !document.body.classList.contains(`no-${name}`)) {
  document.body.classList.toggle(`no-${name}`, folded);
  $(`fold-${name}`).setAttribute("aria-expanded", String(!folded));
}

const withFilm = (action) => () => panes[active].shown && action(panes[active].viewer);
const KEYS = {
  n: () => step(1), b: () => step(-1), j: () => stepFinding(1), k: () => stepFinding(-1), a: () => $("files").click(), "?": () => $("help").showModal(),
  w: () => use("window"), p: () => use("pan"), z: () => use("zoom"), m: () => use("magnify"),
  r: ruler, q: withFilm((viewer) => viewer.ruler.measureRatio()), g: () => judge("agree"), x: () => judge("disagree"), y: openDraft, "/": () => $("filter").focus(),
  i: withFilm((viewer) => viewer.invert()), o: withFilm((viewer) => viewer.rotate()),
  f: withFilm((viewer) => viewer.fit()), t: withFilm((viewer) => viewer.actual()), 0: withFilm((viewer) => viewer.reset()),
  u: fullScreen, h: mark, c: () => !$("compare").disabled && compare(), v: () => comparing && link(),
  l: () => fold("worklist"), d: () => fold("findings"),
  "+": withFilm((viewer) => viewer.zoom(1.25)), "=": withFilm((viewer) => viewer.zoom(1.25)), "-": withFilm((viewer) => viewer.zoom(0.8)),
};
["auto", "full", "lungs", "bones"].forEach((name, k) => {
  KEYS[String(k + 1)] = withFilm((viewer) => viewer.preset(name));
});
function openDraft() {
  const { film } = panes[active];
  if (!film?.result?.findings.length) return;
  $("draft").value = draft(film, model, work.point);
  $("drafting").showModal();
}

async function copyDraft() {
  try {
    await navigator.clipboard.writeText($("draft").value);
  } catch {
    $("draft").select(); // off loopback without TLS there is no other way
    document.execCommand("copy");
  }
  tell(words.copied);
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.();
}

listen(KEYS, panes, () => tool, () => panes[active]);
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
  invert: KEYS.i, rotate: KEYS.o, fit: KEYS.f, actual: KEYS.t, reset: KEYS[0], full: fullScreen, compare, linked: link, regions: mark,
  "save-png": () => savePng(panes[active], model, work.point), ratio: KEYS.q, agree: KEYS.g, disagree: KEYS.x, "draft-open": openDraft, copy: copyDraft, "save-dicom": dicom, clear, examples,
  anyway: () => panes[active].film && work.force(panes[active].film),
  choose: () => $("files").click(), more: () => $("files").click(), "choose-folder": () => $("folder").click(),
  "help-open": () => $("help").showModal(), theme: switchTheme,
  "fold-worklist": KEYS.l, "fold-findings": KEYS.d,
  "save-csv": () => saveCsv(work.films, model, work.point), "save-reading": () => saveReadings(work.films, model), "save-signed": sign,
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
for (const id of ["files", "folder"]) {
  $(id).addEventListener("change", () => {
    work.add([...$(id).files]);
    $(id).value = "";
  });
}
$("signing").addEventListener("close", () => $("signing").returnValue === "yes" && signed());
$("clearing").addEventListener("close", () => $("clearing").returnValue === "yes" && forget());
$("keep").checked = isKept();
$("keep").addEventListener("change", () => allow($("keep").checked, work.films));
for (const id of ["filter", "show", "of", "order"]) $(id).addEventListener("input", drawWorklist);
$("filter").addEventListener("keydown", (event) => event.key === "Escape" && $("filter").blur());
$("comment").addEventListener("input", () => note(panes[active].film, panes[active].chosen, { comment: $("comment").value }));
$("preset").addEventListener("change", withFilm((viewer) => viewer.preset($("preset").value)));
$("point").addEventListener("change", () => work.at($("point").value));
$("sort").addEventListener("input", drawFindings);
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", kind === "dragenter" || kind === "dragover");
  });
}
document.addEventListener("drop", async (event) => work.add(await dropped(event.dataTransfer)));
addEventListener("pagehide", () => panes.forEach(keep));
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
    say($("away"), words.reload(error.message));
    setTimeout(begin, RETRY_MS);
    return undefined;
  }
  $("model").textContent = words.model(model);
  $("learned").textContent = model.learned_from && ` · ${model.learned_from.split(":")[0]}`;
  $("learned").title = model.learned_from;
  $("point").replaceChildren(...model.points.map((name) => new Option(words.points[name] ?? name, name)));
  $("of").append(...model.findings.map(({ finding }) => new Option(words.finding(finding), finding)));
  $("point-label").hidden = !model.points.length;
  work.point = firstPoint();
  $("point").value = work.point ?? "";
  drawTools();
  drawFindings();
  document.body.dataset.ready = "";
  work.restore(await keptList());
  return undefined;
}

/** The operating point to begin with: that at which the validation films leave the fewest findings open. */
function firstPoint() {
  const open = (name) => model.findings.filter((one) => one.thresholds[name]?.why).length;
  return [...model.points].sort((one, other) => open(one) - open(other))[0] ?? null;
}

for (const [keys, does] of words.keys) {
  const [term, meaning] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = keys;
  meaning.textContent = does;
  $("keys").append(term, meaning);
}
const foldAsWide = () => fold("worklist", NARROW.matches);
NARROW.addEventListener("change", foldAsWide);
foldAsWide();
drawIcons();
$("axis").append(...labels());
drawWorklist();
begin();
