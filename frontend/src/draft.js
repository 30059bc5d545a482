// A draft of a report's sentences, to be edited and copied.
import { sorted } from "./findings.js";
import { words } from "./words.js";

const today = () => new Date().toISOString().slice(0, 10);

/** What the header says of a film: view, sex, age, date. */
export const saidOf = (film) => [film.result?.header?.view, film.result?.header?.sex, film.result?.header?.age, film.result?.header?.date].filter(Boolean);

export function draft(film, model, point) {
  const findings = sorted(film.result?.findings ?? [], model, "call");
  const own = (one) => film.reading[one.finding]?.present;
  const lines = [];
  for (const one of findings) {
    if (own(one) === 1) lines.push(words.draftRead(one.finding, one.region));
    else if (own(one) === undefined && one.call === "present") lines.push(words.draftFound(one.finding, one.region));
    const comment = film.reading[one.finding]?.comment;
    if (comment) lines.push(comment);
  }
  if (!lines.length) lines.push(words.draftNone);
  const open = findings.filter((one) => own(one) === undefined && one.call === "indeterminate" && one.region).map((one) => one.finding);
  if (open.length) lines.push(words.draftOpen(open));
  return [words.draftHead(film.name, saidOf(film)), ...lines, words.draftFoot(model.name, point && (words.points[point] ?? point), today())].join("\n");
}

/** What stands below a picture: its findings, model, operating point and day. */
export const signed = (model, point) => words.pictureModel(model.name, point && (words.points[point] ?? point), today());
export { today };
