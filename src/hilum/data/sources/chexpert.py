"""Stanford's CheXpert, full or small, as its archives unpack: folder -> Films.

Labels are 1, 0, -1 (uncertain) or blank (not mentioned), by a labeller of the reports; of validation and test films by
radiologists. "No Finding" is 1 or blank, and may stand beside Support Devices.

Source: Irvin et al., "CheXpert: a large chest radiograph dataset with uncertainty labels and expert comparison", AAAI
2019. https://arxiv.org/abs/1901.07031
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hilum.data.films import Films
from hilum.data.sources.reading import Options, Row, films_of, years
from hilum.data.tables import FILM_ENDINGS, SourceFolder, TextTable, read_header, read_table
from hilum.data.vocabulary import Said
from hilum.errors import FilmsError
from hilum.findings import NO_FINDING

LABELS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The columns of labels, which MIMIC-CXR and BRAX have too."""
OTHER_NAMES = {"Lung Opacity": "Airspace Opacity"}
"""What the radiologists' tables of MIMIC-CXR call it."""

_PATH = re.compile(r"(?:^|/)(train|valid|val|test)/((patient[0-9]+)/(study[0-9]+))(?:/([^/]+?)(?:\.[A-Za-z]+)?)?$")
_TABLES = (("train", ("train.csv",)), ("valid", ("valid.csv", "val.csv")), ("test", ("test_labels.csv", "test.csv")))
_STUDIES = "groundtruth.csv"
_BLANK = math.inf
_MEND = "Mend the row in the label file"


def index_chexpert(folder: Path, options: Options) -> Films:
    """List the films that train.csv, valid.csv and the test films' labels describe; no image is opened.

    The folder may be that of the archive or hold it; tables name their films below another first folder than there is.

    Raises:
        FilmsError: if there is no table, or a value in one that cannot be right, by file, row and column.
    """
    found = SourceFolder.below(folder, match="path", endings=FILM_ENDINGS)
    images: dict[str, str] = {}
    for path in found.images.values():
        match = _PATH.search(path)
        if match:
            images.setdefault(_key(match), path)
    if options.labels is not None:
        files = [("", options.labels)]
    else:
        named = ((split, next(filter(None, map(found.file, names)), None)) for split, names in _TABLES)
        files = [(split, file) for split, file in named if file is not None and "Path" in read_header(file)]
        if not any(split == "test" for split, _ in files) and (studies := found.file(_STUDIES)) is not None:
            files.append(("test", studies))
    if not files:
        raise FilmsError(
            f"label file must be train.csv, valid.csv, test_labels.csv or {_STUDIES}, got none in {found.folder} or "
            "its parent. Name it with --labels."
        )
    rows: list[Row] = []
    split_of: dict[str, str] = {}
    for split, file in files:
        by_study = "Path" not in read_header(file)
        for row in _by_study(file, images) if by_study else _by_film(file, images):
            split_of[row.film] = split
            rows.append(row)
    official, notes = official_split(split_of)
    return films_of(
        rows,
        "chexpert",
        found,
        table=files[0][1],
        options=options,
        about="CheXpert",
        official=official,
        notes={"tables": [str(file) for _, file in files], **notes},
    )


def official_split(split_of: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The published split, and a note where it lacks a test set: the validation set is the test set then."""
    there = set(split_of.values())
    if {"train", "test"} <= there:
        names = {"valid": "val"}
        return {film: names.get(split, split) for film, split in split_of.items() if split}, {}
    if {"train", "valid"} <= there:
        names = {"train": "train_val", "valid": "test"}
        note = "There are no test films: the official validation set is the test set, and val is cut from train."
        return {film: names[split] for film, split in split_of.items()}, {"official_note": note}
    return {}, {}


def said_of(table: TextTable, columns: Sequence[str]) -> list[Said | None]:
    """What each row of a table in CheXpert's form says; None for a row that is blank in all columns.

    Raises:
        FilmsError: naming file, row and column of a cell that is no label.
    """
    cells = [table.parse(column, _label, "be 1, 0, -1 or empty", _MEND) for column in columns]
    known: dict[tuple[float, ...], Said | None] = {}
    said = []
    for values in zip(*cells, strict=True):
        if values not in known:
            mentioned = {column: value for column, value in zip(columns, values, strict=True) if value != _BLANK}
            known[values] = mentioned or None
        said.append(known[values])
    return said


def _label(text: str) -> float | None:
    return {"": _BLANK, "1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": -1.0, "-1.0": -1.0}.get(text)


def _key(match: re.Match[str]) -> str:
    split = "valid" if match[1] == "val" else match[1]
    return f"{split}/{match[2]}/{match[5]}".lower()


def _parts(table: TextTable, column: str, *, of_film: bool) -> list[re.Match[str]]:
    def parse(text: str) -> re.Match[str] | None:
        match = _PATH.search(text.replace("\\", "/"))
        return match if match and (match[5] is not None) == of_film else None

    form = "train/patient00001/study1" + ("/view1_frontal.jpg" if of_film else "")
    return table.parse(column, parse, f"be a path such as {form}", _MEND)


def _by_film(file: Path, images: Mapping[str, str]) -> Iterator[Row]:
    header = set(read_header(file))
    described = [name for name in ("Sex", "Age", "Frontal/Lateral", "AP/PA") if name in header]
    table = read_table(file, ["Path", *described, *LABELS], other_names=OTHER_NAMES)
    parts = _parts(table, "Path", of_film=True)
    nothing = [""] * len(parts)
    ages = table.parse("Age", years, "be years or empty", _MEND) if "Age" in described else [math.nan] * len(parts)
    sexes, sides, views = (table.columns.get(name, nothing) for name in ("Sex", "Frontal/Lateral", "AP/PA"))
    first: dict[str, int] = {}
    for index, (match, age, sex, side, view, said) in enumerate(
        zip(parts, ages, sexes, sides, views, said_of(table, LABELS), strict=True)
    ):
        key = _key(match)
        if first.setdefault(key, index) != index:
            rule = f"be unique, but row {table.rows[first[key]]} is the same film"
            raise table.fault("Path", index, rule, "Remove one of the two rows")
        path = images.get(key)
        yield Row(
            film=path or key,
            path=path,
            patient=match[3],
            study=match[2],
            said=said,
            view=_view(side, view, match[5]),
            age=age or math.nan,  # 0 is written where the age is unknown
            sex=sex,
        )


def _by_study(file: Path, images: Mapping[str, str]) -> Iterator[Row]:
    """The films of studies that radiologists labelled; all views of a study have its labels."""
    table = read_table(file, ["Study", *LABELS], other_names=OTHER_NAMES)
    of_study: dict[str, list[tuple[str, str]]] = {}
    for key, path in images.items():
        of_study.setdefault(key.rpartition("/")[0], []).append((key, path))
    for match, said in zip(_parts(table, "Study", of_film=False), said_of(table, LABELS), strict=True):
        study = f"{match[1]}/{match[2]}".lower()
        films = of_study.get(study, [])
        if not films:
            yield Row(study, None, match[3], match[2], said)
        for key, path in films:
            yield Row(path, path, match[3], match[2], said, view=_view("", "", key))


def _view(side: str, view: str, name: str) -> str:
    if side.lower() == "lateral" or (not side and "lateral" in name.lower()):
        return "lateral"
    return view
