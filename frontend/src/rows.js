// The worklist as rows that are buttons, under their patients' headings.
import { grouped, isLateral } from "./order.js";
import { words } from "./words.js";
import { kind, misfit } from "./worklist.js";

const NAMED = 3;

function made(film, open) {
  const row = document.createElement("li");
  row.dataset.id = film.id;
  row.innerHTML = '<p class="group" hidden></p><button type="button"><span class="name"></span><span class="state"></span><span class="top"></span></button>';
  row.lastChild.addEventListener("click", () => open(film));
  return row;
}

function note(film, calls) {
  if (film.state === "refused") return film.why;
  if (isLateral(film) && !film.result?.forced) return words.lateral;
  if (misfit(film)) return film.result.forced ? words.rowAnyway(kind(film)) : words.rowNot(kind(film));
  if (film.state !== "done") return "";
  const found = film.result.findings.filter((one) => !calls || one.call === "present" || one.call === "indeterminate");
  const above = found.filter((one) => !one.threshold || one.score >= one.threshold.value);
  const top = above.sort((one, other) => (one.call === other.call ? other.score - one.score : one.call === "present" ? -1 : 1)).slice(0, NAMED);
  return top.length ? words.rowTop(top) : words.rowNone;
}

function state(film, prior) {
  const said = [];
  if (film.result?.header?.date) said.push(film.result.header.date);
  if (prior) said.push(words.prior);
  if (Object.keys(film.reading).length) said.push(words.showRead);
  return said.length ? said.join(" · ") : misfit(film) && !film.result.forced ? words.showNot : words.states[film.state];
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Bring the rows to what the films are; `calls` is whether the model has thresholds, `shown` which films are open. */
export function drawRows(list, films, { calls, shown, byPatient, open }) {
  const places = grouped(films);
  const rows = new Map([...list.children].map((row) => [row.dataset.id, row]));
  films.forEach((film, k) => {
    const row = rows.get(film.id) ?? made(film, open);
    rows.delete(film.id);
    if (list.children[k] !== row) list.insertBefore(row, list.children[k] ?? null);
    const [group, button] = row.children;
    const over = byPatient ? places[k].heading : null;
    if (group.hidden === Boolean(over)) group.hidden = !over;
    if (over) set(group, words.group(over.patient, over.films));
    const [name, said, top] = button.children;
    const style = `${film.state}${misfit(film) ? " misfit" : ""}`;
    if (button.className !== style) button.className = style;
    const current = shown.includes(film);
    if (current !== button.hasAttribute("aria-current")) {
      if (current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    set(name, film.name);
    set(said, state(film, places[k].prior));
    set(top, note(film, calls));
    const title = [film.name, film.state === "refused" ? film.why : misfit(film)].filter(Boolean).join(": ");
    if (button.title !== title) button.title = title;
  });
  for (const row of rows.values()) row.remove();
}
