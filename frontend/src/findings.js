// The findings of one film, as a list of bars that are buttons, and what is known of the chosen one.
import { place, ticks } from "./scale.js";
import { words } from "./words.js";

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

/** What is known of a finding of a film, sentence by sentence. */
export function about(one, model) {
  const facts = model.findings.find(({ finding }) => finding === one.finding);
  const below = one.threshold && one.score < one.threshold.value;
  return [
    facts?.words,
    one.region ? words.regionPlace(one.region) : below ? words.belowNoRegion : words.emptyRegion,
    one.threshold ? words.limits(one.threshold) : words.noThreshold,
    facts?.auroc ? words.measured(facts.auroc, model.judged_films) : words.unmeasured,
  ].filter(Boolean);
}

export function sorted(findings, model, order) {
  const urgency = new Map(model.findings.map((one) => [one.finding, one.urgency]));
  const by = {
    finding: (a, b) => words.finding(a.finding).localeCompare(words.finding(b.finding)),
    score: (a, b) => b.score - a.score,
    call: (a, b) => RANK[a.call] - RANK[b.call] || b.score - a.score,
    triage: (a, b) => RANK[a.call] - RANK[b.call] || urgency.get(a.finding) - urgency.get(b.finding) || b.score - a.score,
  }[order];
  return [...findings].sort(by);
}

function row(one, chosen, choose) {
  const item = element("li");
  const button = element("button", `finding ${one.call.replace(" ", "-")}${one.region ? " located" : ""}`);
  button.type = "button";
  button.dataset.finding = one.finding;
  button.setAttribute("aria-pressed", String(chosen === one.finding));
  const line = element("span", "line");
  line.append(element("span", "name", words.finding(one.finding)));
  if (one.call !== "no threshold") line.append(element("span", "call", words.call(one.call)));
  line.append(element("span", "score", words.score(one.score)));
  button.append(line, bar(one));
  button.addEventListener("click", () => choose(button.getAttribute("aria-pressed") === "true" ? null : one.finding));
  item.append(button);
  return item;
}

let drawn = null;

/** Fill the list; `chosen` is the finding whose region alone is shown, `choose` is told another. Nothing moves for a choice. */
export function fill(list, findings, model, order, chosen, choose) {
  if (drawn?.findings === findings && drawn.order === order && list.children.length === findings.length) {
    for (const button of list.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.finding === chosen));
    return;
  }
  drawn = { findings, order };
  const focused = document.activeElement?.dataset?.finding;
  list.replaceChildren(...sorted(findings, model, order).map((one) => row(one, chosen, choose)));
  if (focused) [...list.querySelectorAll("button")].find((one) => one.dataset.finding === focused)?.focus();
}
