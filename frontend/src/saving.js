// What a reader takes along: scores as CSV, what is seen as PNG, a DICOM film's result as DICOM.
import { dicom } from "./api.js";
import { csv } from "./findings.js";
import { misfit } from "./worklist.js";
import { picture } from "./picture.js";

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export const saveCsv = (films, model) => save(new Blob([csv(films, model)], { type: "text/csv" }), "predictions.csv");

export async function savePng({ viewer, film, chosen }) {
  const one = film.result?.findings.find((finding) => finding.finding === chosen);
  const said = one ? [`${film.name}, ${one.finding.replaceAll("_", " ")}: score ${one.score.toFixed(3)}`] : [film.name];
  if (misfit(film)) said.push(`${film.result.forced ? "Shown although it does not fit the model" : "Not analysed"}: ${misfit(film)}`);
  save(await picture(viewer, [...said, "Research software, not a medical device"]), `${film.name}.reading.png`);
}

export const saveDicom = async (film, point) => save(await dicom(film.file, point, film.force), `${film.name}.results.zip`);
