// Which films of the worklist are listed, in which order, and under which headings.
import { kind, misfit } from "./worklist.js";

const header = (film) => film?.result?.header;
const called = (film, call, of) => film.result?.findings.some((one) => one.call === call && (!of || one.finding === of)) ?? false;

const SHOWN = {
  all: () => true,
  present: (film, of) => called(film, "present", of),
  indeterminate: (film, of) => called(film, "indeterminate", of),
  nothing: (film, of) => film.state === "done" && !misfit(film) && !called(film, "present", of),
  misfit: (film) => Boolean(misfit(film)),
  refused: (film) => film.state === "refused",
  read: (film) => Object.keys(film.reading).length > 0,
  unread: (film) => film.state === "done" && !Object.keys(film.reading).length,
};

/** The score that films are sorted by: of one finding, or the highest that is above its threshold. */
function score(film, of) {
  const scores = (film.result?.findings ?? []).filter((one) => (of ? one.finding === of : one.call !== "absent")).map((one) => one.score);
  return Math.max(-1, ...scores);
}

const date = (film) => header(film)?.date ?? "";
const isLateral = (film) => kind(film) === "lateral" || header(film)?.view === "LATERAL";

/** Films of a patient together where the first of them stands; in a study, laterals after frontals; the newest study first. */
function byPatient(films) {
  const groups = new Map();
  for (const film of films) {
    const key = header(film)?.patient || film.id;
    groups.set(key, [...(groups.get(key) ?? []), film]);
  }
  for (const group of groups.values()) {
    group.sort((a, b) => date(b).localeCompare(date(a)) || (header(a)?.study ?? "").localeCompare(header(b)?.study ?? "") || isLateral(a) - isLateral(b));
  }
  return [...groups.values()].flat();
}

/**
 * @param {{text: string, show: string, of: string, order: string}} asked
 * @returns {object[]} the films that are listed
 */
export function listed(films, { text, show, of, order }) {
  const wanted = text.trim().toLowerCase();
  const told = (film) => `${film.name} ${header(film)?.patient ?? ""} ${date(film)}`.toLowerCase();
  const some = films.filter((film) => told(film).includes(wanted) && SHOWN[show](film, of) && (!of || show !== "all" || called(film, "present", of) || called(film, "indeterminate", of)));
  if (order === "patient") return byPatient(some);
  if (order === "name") return some.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  if (order === "score") return some.sort((a, b) => score(b, of) - score(a, of));
  if (order === "date") return some.sort((a, b) => date(b).localeCompare(date(a)));
  return some;
}

/**
 * For each film, in one pass however many there are: the heading that stands before it, which is its patient where the film
 * before is another's, and whether it is of an earlier study than another of its patient.
 */
export function grouped(films) {
  const patients = new Map();
  for (const film of films) {
    const patient = header(film)?.patient;
    if (!patient) continue;
    const known = patients.get(patient) ?? { patient, films: 0, latest: "" };
    known.films += 1;
    if (date(film) > known.latest) known.latest = date(film);
    patients.set(patient, known);
  }
  return films.map((film, k) => {
    const of = patients.get(header(film)?.patient);
    const first = Boolean(of) && header(films[k - 1])?.patient !== of.patient;
    return { heading: first ? of : null, prior: Boolean(of && date(film)) && date(film) < of.latest };
  });
}

/** The film to compare one with: its patient's next earlier study, else another film of the patient, else the one after. */
export function partner(film, films) {
  const patient = header(film)?.patient;
  const others = films.filter((one) => one !== film && one.state === "done");
  const own = others.filter((one) => patient && header(one)?.patient === patient);
  const earlier = own.filter((one) => date(one) < date(film) && !isLateral(one)).sort((a, b) => date(b).localeCompare(date(a)));
  return earlier[0] ?? own[0] ?? others.find((one) => films.indexOf(one) > films.indexOf(film)) ?? others[0];
}

export { isLateral };
