"""MIMIC-CXR-JPG 2.0 and 2.1, as PhysioNet lays it out: folder -> Films.

A label is a study's: its frontal and its lateral film share it. Two labellers read the reports; `--labeller` chooses.
Studies of the test set that radiologists labelled (2.1) have their labels. Age and sex come from MIMIC-IV's
patients.csv, where it lies in the folder.

Source: Johnson et al., "MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs", 2019.
https://arxiv.org/abs/1901.07042 and https://physionet.org/content/mimic-cxr-jpg/
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hilum.data.films import Films
from hilum.data.sources.chexpert import LABELS, OTHER_NAMES, said_of
from hilum.data.sources.reading import SPLITS, VIEWS, Options, Row, films_of
from hilum.data.tables import FILM_ENDINGS, SourceFolder, TextTable, read_header, read_table, shown
from hilum.data.vocabulary import Said
from hilum.errors import FilmsError

LABELLERS = ("chexpert", "negbio")
_CODED_VIEWS = {
    "antero-posterior": "AP",
    "postero-anterior": "PA",
    "lateral": "LATERAL",
    "left lateral": "LATERAL",
    "right lateral": "LATERAL",
}
_MEND = "Download the table again, or mend the row"


def index_mimic(folder: Path, options: Options) -> Films:
    """List the films that the metadata describe, with their studies' labels; no image is opened.

    Raises:
        FilmsError: if a table is missing, or a value in one cannot be right, by file, row and column.
    """
    if options.labeller not in LABELLERS:
        raise FilmsError(f"labeller must be one of {', '.join(LABELLERS)}, got {options.labeller!r}. Choose one.")
    found = SourceFolder.below(folder, endings=FILM_ENDINGS)
    metadata = _table(found, "metadata")
    label_file = options.labels or _table(found, options.labeller)
    said = _said(label_file)
    radiologists = next(iter(found.files_like("mimic-cxr-*test-set-labeled.csv")), None)
    by_hand = {} if radiologists is None else _said(radiologists)
    split_file = next(iter(found.files_like("mimic-cxr-*-split.csv")), None)
    splits = {} if split_file is None else _splits(split_file)
    patients = found.file("patients.csv")
    people = {} if patients is None else _people(patients)
    official: dict[str, str] = {}

    def rows() -> Iterator[Row]:
        for film, row, year in _films(metadata, found):
            split = splits.get(film)
            if split is not None:
                official[row.film] = split
            labels = by_hand[row.study] if split == "test" and row.study in by_hand else said.get(row.study)
            sex, born = people.get(row.patient, ("", math.nan))
            age = year - born if year >= born else math.nan
            yield replace(row, said=labels, age=age, sex=sex)

    notes: dict[str, Any] = {"labeller": options.labeller, "metadata": str(metadata)}
    if radiologists is not None:
        notes |= {"test_labels": str(radiologists), "test_studies_by_radiologists": len(by_hand)}
    return films_of(
        rows(),
        "mimic",
        found,
        table=label_file,
        options=options,
        about=f"MIMIC-CXR-JPG ({options.labeller} labels)",
        official=official,
        notes=notes,
    )


def _table(found: SourceFolder, name: str) -> Path:
    files = found.files_like(f"mimic-cxr-*-{name}.csv")
    if not files:
        raise FilmsError(
            f"folder must hold mimic-cxr-2.0.0-{name}.csv.gz, got none in {found.folder}. Download it from PhysioNet "
            "into this folder."
        )
    return files[0]


def _said(file: Path) -> dict[str, Said | None]:
    """What is said of each study."""
    header = set(read_header(file))
    columns = [name for name in LABELS if name in header or OTHER_NAMES.get(name) in header]
    table = read_table(file, ["study_id", *columns], other_names=OTHER_NAMES)
    studies = table.parse("study_id", _id, "be a study's number", _MEND)
    return dict(zip(studies, said_of(table, columns), strict=True))


def _id(text: str) -> str | None:
    number = text.removesuffix(".0")
    return number if number.isascii() and number.isdigit() else None


def _splits(file: Path) -> dict[str, str]:
    table = read_table(file, ["dicom_id", "split"])
    splits = table.parse("split", lambda text: SPLITS.get(text.lower()), "be train, validate or test", _MEND)
    return dict(zip(table.columns["dicom_id"], splits, strict=True))


def _people(file: Path) -> dict[str, tuple[str, float]]:
    """Each patient's sex and, in the shifted years of the data set, year of birth."""
    table = read_table(file, ["subject_id", "gender", "anchor_age", "anchor_year"])
    ages, years = (table.parse(name, _whole, "be a whole number", _MEND) for name in ("anchor_age", "anchor_year"))
    columns = zip(table.columns["subject_id"], table.columns["gender"], ages, years, strict=True)
    return {patient: (sex, year - age) for patient, sex, age, year in columns}


def _whole(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _films(metadata: Path, found: SourceFolder) -> Iterator[tuple[str, Row, float]]:
    """Each film's name, its row without labels, and the year of its study."""
    header = set(read_header(metadata))
    optional = [name for name in ("ViewCodeSequence_CodeMeaning", "StudyDate") if name in header]
    table = read_table(metadata, ["dicom_id", "subject_id", "study_id", "ViewPosition", *optional])
    patients = table.parse("subject_id", _id, "be a patient's number", _MEND)
    studies = table.parse("study_id", _id, "be a study's number", _MEND)
    nothing = [""] * len(patients)
    coded, dates = (table.columns.get(name, nothing) for name in ("ViewCodeSequence_CodeMeaning", "StudyDate"))
    _refuse_repeated(table)
    for film, patient, study, view, meaning, date in zip(
        table.columns["dicom_id"], patients, studies, table.columns["ViewPosition"], coded, dates, strict=True
    ):
        path = found.image(film)
        year = float(date[:4]) if date[:4].isascii() and date[:4].isdigit() else math.nan
        word = view if view and VIEWS.get(view.lower()) != "unknown" else _CODED_VIEWS.get(meaning.lower(), view)
        yield film, Row(path or film, path, patient, study, None, word), year


def _refuse_repeated(table: TextTable) -> None:
    films = table.columns["dicom_id"]
    if len(set(films)) == len(films):
        return
    first: dict[str, int] = {}
    for index, film in enumerate(films):
        if first.setdefault(film, index) != index:
            rule = f"be unique, but row {table.rows[first[film]]} is {shown(film)} too"
            raise table.fault("dicom_id", index, rule, "Remove one of the two rows")
