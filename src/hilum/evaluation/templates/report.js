"use strict";
document.documentElement.classList.add("scripted");

/* Tables that are sorted by a click or key on a column's name; a row of class mean stays on top. */

function sortKey(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text : number;
}

function compare(one, other, sign) {
  const words = [typeof one === "string", typeof other === "string"];
  if (words[0] !== words[1]) return words[0] ? 1 : -1; // what has no number stands last, whichever way
  return sign * (words[0] ? one.localeCompare(other) : one - other);
}

function sortTable(table, heading) {
  const body = table.tBodies[0], column = heading.cellIndex;
  const rows = [...body.rows].filter((row) => !row.classList.contains("mean"));
  const isText = rows.every((row) => typeof sortKey(row, column) === "string");
  const order = heading.getAttribute("aria-sort") || (isText ? "descending" : "ascending");
  const next = order === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", next);
  const sign = next === "ascending" ? 1 : -1;
  rows.sort((one, other) => compare(sortKey(one, column), sortKey(other, column), sign));
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortTable(table, heading));
    heading.append(button);
  }
}

/* The slider: what a threshold does to the evaluated films. */

const panel = document.getElementById("slider");
if (panel) {
  const data = JSON.parse(document.getElementById("steps").textContent);
  const finding = panel.querySelector("select"), range = panel.querySelector("input");
  const path = panel.querySelector("path.curve"), dot = panel.querySelector("ellipse");
  const at = (step, one) => [step[2] / one.negatives, step[1] / one.positives];
  const proportion = (part, whole) => (whole ? (part / whole).toFixed(3) : "undefined");

  const show = () => {
    const one = data[finding.value];
    const [threshold, hits, falseAlarms] = one.steps[one.steps.length - 1 - range.value]; // to the right: higher
    const misses = one.positives - hits, cleared = one.negatives - falseAlarms, called = hits + falseAlarms;
    const films = one.positives + one.negatives;
    const say = (name, text, small) => {
      panel.querySelector(`[data-name=${name}]`).firstElementChild.textContent = text;
      panel.querySelector(`[data-name=${name}] .range`).textContent = small;
    };
    const of = (part, whole) => `${part.toLocaleString("en")} of ${whole.toLocaleString("en")}`;
    say("sensitivity", proportion(hits, one.positives), of(hits, one.positives));
    say("specificity", proportion(cleared, one.negatives), of(cleared, one.negatives));
    say("ppv", proportion(hits, called), of(hits, called));
    say("npv", proportion(cleared, cleared + misses), of(cleared, cleared + misses));
    say("positive_calls", ((100 * called) / films).toFixed(1), of(called, films));
    panel.querySelector("output").textContent = threshold.toFixed(4);
    range.setAttribute("aria-valuetext", threshold.toFixed(4));
    const [across, up] = at(one.steps[one.steps.length - 1 - range.value], one);
    dot.setAttribute("cx", 100 * across);
    dot.setAttribute("cy", 100 * (1 - up));
  };

  const choose = () => {
    const one = data[finding.value];
    range.max = one.steps.length - 1;
    const nearest = one.steps.map((step) => Math.abs(step[0] - one.start));
    range.value = one.steps.length - 1 - nearest.indexOf(Math.min(...nearest));
    const points = one.steps.map((step) => at(step, one)).map(([x, y]) => `${100 * x} ${100 * (1 - y)}`);
    path.setAttribute("d", `M0 100 L${points.join(" L")}`);
    show();
  };

  finding.addEventListener("change", choose);
  range.addEventListener("input", show);
  choose();
}
