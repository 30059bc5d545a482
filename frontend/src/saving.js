// What a reader takes along: scores as CSV, what is seen as PNG, a DICOM film's result as DICOM.
import { dicom, reading } from "./api.js";
import { csv, readings } from "./csv.js";
import { signed } from "./draft.js";
import { picture } from "./picture.js";
import { words } from "./words.js";
import { misfit } from "./worklist.js";

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export const saveCsv = (films, model, point) => save(new Blob([csv(films, model, point)], { type: "text/csv" }), "predictions.csv");
export const saveReadings = (films, model) => save(new Blob([readings(films, model)], { type: "text/csv" }), "reading.csv");

/** The films whose reading can be a DICOM report: DICOM films that were read or commented on. */
export const signable = (films) => films.filter((film) => film.result?.header && Object.keys(film.reading).length);

/** A report of each such film, in its own study: one file, or an archive of several. */
export async function saveSigned(films, reader, point) {
  const reports = [];
  for (const film of signable(films)) {
    const call = (name) => film.result.findings.find((one) => one.finding === name)?.call ?? "";
    const said = Object.entries(film.reading).map(([name, { present, comment }]) => [name, { present: present === undefined ? null : present === 1, comment: comment ?? "", call: call(name) }]);
    reports.push({ name: `${film.name}.reading.sr.dcm`, content: await reading(film.file, Object.fromEntries(said), reader, point) });
  }
  if (reports.length === 1) save(reports[0].content, reports[0].name);
  else save(await (await import("./archive.js")).pack(reports), "readings.zip");
}

export async function savePng({ viewer, film, chosen }, model, point) {
  const said = [film.name];
  const findings = film.result?.findings ?? [];
  const named = chosen ? findings.filter((one) => one.finding === chosen) : findings.filter((one) => one.call === "present");
  said.push(...named.map(words.pictureFinding));
  if (viewer.ruler.placed) said.push(words.ratio(viewer.ruler.ratio, true));
  if (misfit(film)) said.push(film.result.forced ? words.forcedPicture(misfit(film)) : words.notPicture(misfit(film)));
  save(await picture(viewer, [...said, signed(model, point), words.pictureDisclaimer]), `${film.name}.reading.png`);
}

export const saveDicom = async (film, point) => save(await dicom(film.file, point, film.force), `${film.name}.results.zip`);
