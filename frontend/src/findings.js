// The findings of one film, as a list of bars that are buttons.
import { place, ticks } from "./scale.js";

const words = (name) => name.replaceAll("_", " ");
const RANK = { present: 0, indeterminate: 1, "no threshold": 2, absent: 3 };

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bar(one) {
  const track = element("span", "track");
  track.setAttribute("aria-hidden", "true"); // the same in words stands beside it
  const fill = element("span", "fill");
  fill.style.width = `${place(one.score)}%`;
  track.append(...ticks());
  if (one.threshold) {
    const { value, low, high } = one.threshold;
    const zone = element("span", "zone");
    zone.style.left = `${place(low)}%`;
    zone.style.width = `${Math.max(0, place(high) - place(low))}%`;
    const mark = element("span", "mark");
    mark.style.left = `${place(value)}%`;
    track.append(zone, fill, mark);
  } else track.append(fill);
  return track;
}

export function measured(facts, judged) {
  if (!facts?.auroc) return "How well the model finds it was not measured.";
  const { value, low, high, why } = facts.auroc;
  const range = low === null ? (why ? ` (${why})` : "") : ` [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  return `Measured: AUROC ${value.toFixed(2)}${range} on ${judged} films.`;
}

function limits({ value, low, high, why }) {
  const at = (share) => share.toFixed(3);
  if (why && low < high) return `The threshold is ${at(value)}, but it has no interval (${why}), so every score is indeterminate.`;
  if (low >= high) return `Present from ${at(value)} on.`;
  return `Present from ${at(high)} on, absent below ${at(low)}, indeterminate between; the threshold is ${at(value)}.`;
}

function about(one, facts, model) {
  const limit = one.threshold ? limits(one.threshold) : "There is no threshold for it.";
  return `${facts?.words ?? ""} ${limit} ${measured(facts, model.judged_films)}`.trim();
}

function sorted(findings, facts, order) {
  const by = {
    urgency: (a, b) => RANK[a.call] - RANK[b.call] || (facts.get(a.finding)?.urgency ?? 4) - (facts.get(b.finding)?.urgency ?? 4) || b.score - a.score,
    score: (a, b) => b.score - a.score,
    name: (a, b) => a.finding.localeCompare(b.finding),
  }[order];
  return [...findings].sort(by);
}

/** Fill the list; `chosen` is the finding whose heatmap is shown, `choose` is told another. */
export function fill(list, findings, model, order, chosen, choose) {
  const facts = new Map(model.findings.map((one) => [one.finding, one]));
  const focused = document.activeElement?.dataset?.finding;
  list.replaceChildren(
    ...sorted(findings, facts, order).map((one) => {
      const item = element("li");
      const button = element("button", `finding ${one.call.replace(" ", "-")}`);
      button.type = "button";
      button.dataset.finding = one.finding;
      button.setAttribute("aria-pressed", String(chosen === one.finding));
      const line = element("span", "line");
      line.append(element("span", "name", words(one.finding)));
      if (one.call !== "no threshold") line.append(element("span", "call", one.call));
      line.append(element("span", "score", one.score.toFixed(3)));
      const note = element("span", "about", about(one, facts.get(one.finding), model));
      button.append(line, bar(one), note);
      if (chosen === one.finding && !one.heatmap) button.append(element("span", "none", one.call === "absent" ? "Absent: no heatmap." : "No heatmap."));
      button.addEventListener("click", () => choose(chosen === one.finding ? null : one.finding));
      item.append(button);
      return item;
    }),
  );
  if (focused) list.querySelector(`[data-finding="${focused}"]`)?.focus();
}

export function csv(films, model) {
  const cell = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // a table program must not take a name for a formula
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const names = model.findings.map((one) => one.finding);
  const rows = films.map((film) => {
    const of = new Map((film.result?.findings ?? []).map((one) => [one.finding, one]));
    const scores = names.map((name) => of.get(name)?.score ?? "");
    const calls = names.map((name) => of.get(name)?.call ?? "");
    return [cell(film.name), ...scores, ...calls, cell(film.result?.fit ?? ""), film.result?.forced ? "yes" : "no", cell(film.why)].join(",");
  });
  return `${["film", ...names, ...names.map((name) => `call_${name}`), "fit", "forced", "error"].join(",")}\n${rows.join("\n")}\n`;
}
