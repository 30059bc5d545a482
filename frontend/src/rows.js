// The worklist as rows that are buttons.
import { kind, misfit } from "./worklist.js";

function made(film, open) {
  const row = document.createElement("li");
  row.dataset.id = film.id;
  row.innerHTML = '<button type="button"><span class="name"></span><span class="state"></span><span class="top"></span></button>';
  row.firstChild.addEventListener("click", () => open(film));
  return row;
}

function note(film, calls) {
  if (film.state === "refused") return film.why;
  if (misfit(film)) return film.result.forced ? `shown anyway, does not fit the model: ${kind(film)}` : `not analysed: ${kind(film)}`;
  if (film.state !== "done" || !calls) return "";
  const count = (call) => film.result.findings.filter((one) => one.call === call).length;
  return `${count("present") || "none"} called${count("indeterminate") ? `, ${count("indeterminate")} indeterminate` : ""}`;
}

/** Bring the rows to what the films are; `calls` is whether the model has thresholds, `shown` which films are open. */
export function drawRows(list, films, { calls, shown, open }) {
  const rows = new Map([...list.children].map((row) => [row.dataset.id, row]));
  films.forEach((film, k) => {
    const row = rows.get(film.id) ?? made(film, open);
    rows.delete(film.id);
    if (list.children[k] !== row) list.insertBefore(row, list.children[k] ?? null);
    const [button] = row.children;
    const [name, state, top] = button.children;
    button.className = film.state;
    button.classList.toggle("misfit", Boolean(misfit(film)));
    if (shown.includes(film)) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    name.textContent = film.name;
    state.textContent = film.state;
    top.textContent = note(film, calls);
    button.title = [film.name, film.state === "refused" ? film.why : misfit(film)].filter(Boolean).join(": ");
  });
  for (const row of rows.values()) row.remove();
}
