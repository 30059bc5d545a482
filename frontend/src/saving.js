// What a reader takes along: scores as CSV, what is seen as PNG, a DICOM film's result as DICOM.
import { dicom } from "./api.js";
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

export async function savePng({ viewer, film, chosen }, model, point) {
  const said = [film.name];
  const findings = film.result?.findings ?? [];
  const named = chosen ? findings.filter((one) => one.finding === chosen) : findings.filter((one) => one.call === "present");
  said.push(...named.map(words.pictureFinding));
  if (viewer.ruler.ratio !== null) said.push(words.ratio(viewer.ruler.ratio));
  if (misfit(film)) said.push(film.result.forced ? words.forcedPicture(misfit(film)) : words.notPicture(misfit(film)));
  save(await picture(viewer, [...said, signed(model, point), words.pictureDisclaimer]), `${film.name}.reading.png`);
}

export const saveDicom = async (film, point) => save(await dicom(film.file, point, film.force), `${film.name}.results.zip`);
