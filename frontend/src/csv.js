// Tables: all scores, with what they are worth; and the reader's own labels, as hilum evaluate --reference reads them.
import { today } from "./draft.js";

function cell(value) {
  const text = String(value);
  const safe = /^[=+\-@\t\r]/.test(text) && typeof value === "string" ? `'${text}` : text; // a table program must not take a name for a formula
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const table = (rows) => `${rows.map((row) => row.map(cell).join(",")).join("\n")}\n`;

export function csv(films, model, point) {
  const names = model.findings.map((one) => one.finding);
  const head = ["film", ...names, ...["call", "threshold", "read", "comment"].flatMap((kind) => names.map((name) => `${kind}_${name}`))];
  const rows = films.map((film) => {
    const of = new Map((film.result?.findings ?? []).map((one) => [one.finding, one]));
    const each = (value) => names.map((name) => (of.has(name) ? value(of.get(name)) : ""));
    const own = (key) => names.map((name) => film.reading[name]?.[key] ?? "");
    const { header, fit, forced } = film.result ?? {};
    return [
      film.name, ...each((one) => one.score), ...each((one) => one.call), ...each((one) => one.threshold?.value ?? ""), ...own("present"), ...own("comment"),
      header?.patient ?? "", header?.date ?? "", header?.view ?? "", fit ?? "", forced ? "yes" : "no", film.why, model.name, point ?? "", today(),
    ];
  });
  return table([[...head, "patient", "date", "view", "fit", "forced", "error", "model", "operating_point", "exported"], ...rows]);
}

/** A row for each film that was read: 1 present, 0 absent, empty unread. */
export function readings(films, model) {
  const names = model.findings.map((one) => one.finding);
  const read = films.filter((film) => Object.values(film.reading).some((one) => one.present !== undefined));
  return table([["film", ...names], ...read.map((film) => [film.name, ...names.map((name) => film.reading[name]?.present ?? "")])]);
}
