"""Phantom films in the layouts of other data sets than ChestX-ray14: where each film lies, and the tables beside them.

What the films show is written in each set's own words and codes, so that its reader can be tried end to end.
"""

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from hilum.phantom.findings import Box

Pixels = UInt8[np.ndarray, "size size"]


@dataclass(frozen=True)
class Drawn:
    """A phantom film and what is on it.

    Attributes:
        patient: from 1.
        follow_up: from 0.
        view: PA or AP.
        test: whether the patient is for testing.
        findings: by ChestX-ray14's names.
        subtle: those of the findings that can hardly be seen.
        boxes: of the findings, as fractions of the film.
        devices: whether tubes and wires are on it.
    """

    patient: int
    follow_up: int
    age: int
    sex: str
    view: str
    test: bool
    findings: tuple[str, ...]
    subtle: tuple[str, ...]
    boxes: tuple[Box, ...]
    devices: bool


@dataclass(frozen=True)
class Layout:
    """How a data set lays its films out.

    Attributes:
        path: of a film below the folder.
        write: the tables beside the films.
        save: pixels into the file of a film; PNG and JPEG by its ending if None.
    """

    path: Callable[[Drawn], str]
    write: Callable[[Path, Sequence[Drawn]], None]
    save: Callable[[Pixels, Path, Drawn], None] | None = None


def save_film(layout: Layout, pixels: Pixels, folder: Path, film: Drawn) -> None:
    """Write a film to its place."""
    path = folder / layout.path(film)
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout.save is not None:
        layout.save(pixels, path, film)
    elif path.suffix == ".jpg":
        Image.fromarray(pixels).save(path, quality=95)
    else:
        Image.fromarray(pixels).save(path, compress_level=1)


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV table, gzipped if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


CHEXPERT_COLUMNS = {
    "Enlarged Cardiomediastinum": (),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Opacity": ("Atelectasis", "Consolidation", "Edema", "Infiltration", "Pneumonia", "Mass", "Nodule"),
    "Lung Lesion": ("Mass", "Nodule"),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening",),
    "Fracture": (),
}
"""CheXpert's columns and the phantom's findings that make them present."""
CHEXPERT_HEADER = ("No Finding", *CHEXPERT_COLUMNS, "Support Devices")


def chexpert_labels(film: Drawn) -> list[str]:
    """A film's cells under CHEXPERT_HEADER: subtle findings are uncertain, what is not there is blank."""
    cells = []
    for names in CHEXPERT_COLUMNS.values():
        found = [name for name in names if name in film.findings]
        cells.append("" if not found else "-1.0" if set(found) <= set(film.subtle) else "1.0")
    return ["" if any(cells) else "1.0", *cells, "1.0" if film.devices else ""]


def _chexpert_path(film: Drawn) -> str:
    folder = "valid" if film.test else "train"
    return f"{folder}/patient{film.patient:05d}/study{film.follow_up + 1}/view1_frontal.jpg"


def _write_chexpert(folder: Path, films: Sequence[Drawn]) -> None:
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_HEADER)
    for name, test in (("train.csv", False), ("valid.csv", True)):
        rows = [
            (
                f"CheXpert-v1.0-small/{_chexpert_path(film)}",
                {"M": "Male", "F": "Female"}[film.sex],
                film.age,
                "Frontal",
                film.view,
                *chexpert_labels(film),
            )
            for film in films
            if film.test == test
        ]
        write_rows(folder / name, [header, *rows])


def _mimic_names(film: Drawn) -> tuple[str, str, str]:
    """Patient, study and film, as numbers and a name of hexadecimal digits."""
    patient, study = 10_000_000 + film.patient, 50_000_000 + 10 * film.patient + film.follow_up
    return str(patient), str(study), f"{film.patient:08x}-{film.follow_up:08x}-{study:08x}"


def _mimic_path(film: Drawn) -> str:
    patient, study, name = _mimic_names(film)
    return f"files/p{patient[:2]}/p{patient}/s{study}/{name}.jpg"


def _write_mimic(folder: Path, films: Sequence[Drawn]) -> None:
    metadata, splits = [], []
    labels: dict[str, Sequence[object]] = {}
    people: dict[str, Sequence[object]] = {}
    for film in films:
        patient, study, name = _mimic_names(film)
        metadata.append((name, patient, study, film.view, f"{2150 + film.follow_up}0101", "", ""))
        splits.append((name, study, patient, "test" if film.test else "validate" if film.patient % 8 == 0 else "train"))
        labels[study] = (patient, study, *chexpert_labels(film))
        people.setdefault(patient, (patient, film.sex, film.age, 2150))
    head = "mimic-cxr-2.0.0-"
    views = ("ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning")
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", *views)
    write_rows(folder / f"{head}metadata.csv.gz", [columns, *metadata])
    write_rows(folder / f"{head}split.csv.gz", [("dicom_id", "study_id", "subject_id", "split"), *splits])
    for labeller in ("chexpert", "negbio"):
        header = ("subject_id", "study_id", *CHEXPERT_HEADER)
        write_rows(folder / f"{head}{labeller}.csv.gz", [header, *labels.values()])
    write_rows(folder / "patients.csv.gz", [("subject_id", "gender", "anchor_age", "anchor_year"), *people.values()])


def _brax_path(film: Drawn) -> str:
    return f"images/id_{film.patient:08d}/Study_{film.follow_up}/Series_0/image-{film.patient}-{film.follow_up}.png"


def _write_brax(folder: Path, films: Sequence[Drawn]) -> None:
    described = ("DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyDate")
    header = (*described, *CHEXPERT_HEADER, "ViewPosition", "Rows", "Columns")
    rows = [
        (
            _brax_path(film).replace("images/", "Anonymized_DICOMs/").replace(".png", ".dcm"),
            _brax_path(film),
            f"id_{film.patient:08d}",
            film.sex,
            "85 or more" if film.age >= 85 else film.age // 5 * 5,
            f"{film.patient}{film.follow_up:03d}",
            "20150101",
            *chexpert_labels(film),
            film.view,
            2000,
            2000,
        )
        for film in films
    ]
    write_rows(folder / "master_spreadsheet_update.csv", [header, *rows])


LAYOUTS = {
    "chexpert": Layout(_chexpert_path, _write_chexpert),
    "mimic": Layout(_mimic_path, _write_mimic),
    "brax": Layout(_brax_path, _write_brax),
}
"""Each layout under the name of its source on the command line; ChestX-ray14's is that of `write_phantom` itself."""
