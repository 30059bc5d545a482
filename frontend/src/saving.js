// What a reader takes along: scores as CSV, what is seen as PNG, a DICOM film's result as DICOM.
import { dicom } from "./api.js";
import { csv } from "./findings.js";
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

export const saveCsv = (films, model) => save(new Blob([csv(films, model)], { type: "text/csv" }), "predictions.csv");

export async function savePng({ viewer, film }) {
  const said = [words.pictureFilm(film.name)];
  if (misfit(film)) said.push(film.result.forced ? words.forcedPicture(misfit(film)) : words.notPicture(misfit(film)));
  save(await picture(viewer, [...said, words.pictureDisclaimer]), `${film.name}.reading.png`);
}

export const saveDicom = async (film, point) => save(await dicom(film.file, point, film.force), `${film.name}.results.zip`);
