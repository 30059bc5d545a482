"""VinDr-CXR, of two hospitals in Hanoi, as PhysioNet or Kaggle lays it out: folder -> Films.

Three readers of 17 looked at each of the 15,000 training films; a finding is present if `--votes` of them (2 if not
given) saw it. The 3,000 test films have one label, the consensus of five. Boxes are kept of what is present. No
patients are published, so each film counts as one.

Source: Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations", Scientific Data 9,
2022. https://doi.org/10.1038/s41597-022-01498-w
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hilum.data.films import Films
from hilum.data.sources.headers import Headers, read_headers
from hilum.data.sources.reading import Options, Row, box_of, films_of, label_file, years
from hilum.data.tables import FILM_ENDINGS, SourceFolder, TextTable, read_header, read_table
from hilum.data.vocabulary import shown_by
from hilum.errors import FilmsError

NO_FINDING = "No finding"
LOCAL = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
)
GLOBAL = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases")
"""What is said of a film as a whole, without boxes. The test table writes "Other disease"."""
KAGGLE = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)
"""The classes of Kaggle's table, 0 to 13; 14 is "No finding", which speaks of these alone."""
READERS = 3

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_TAGS = ("PatientAge", "PatientSex", "Rows", "Columns")
_MEND = "Mend the row, or take the file as it was published"


def index_vindr(folder: Path, options: Options) -> Films:
    """List VinDr-CXR's films; of DICOM films the headers are read, for ages and for the sizes that boxes refer to.

    Raises:
        FilmsError: if images or tables are missing, or a cell cannot be right, by file, row and column.
    """
    if not 1 <= options.votes <= READERS:
        raise FilmsError(
            f"votes must be 1 to {READERS}, as that many readers saw each film, got {options.votes}. Mend it."
        )
    found = SourceFolder.below(folder, endings=FILM_ENDINGS)
    tables = [found.file(f"image_labels_{split}.csv") for split in ("train", "test")]
    if options.labels is None and any(tables):
        marks = {path: split for path, split in zip(tables, ("train_val", "test"), strict=True) if path is not None}
        said = {path: _physionet(path, options.votes) for path in marks}
        boxed = [path for name in ("train", "test") if (path := found.file(f"annotations_{name}.csv")) is not None]
        words: Sequence[str] = (*LOCAL, *GLOBAL, NO_FINDING)
    else:
        path = label_file(found, options, "train.csv", column="class_name")
        marks, said, boxed, words = {}, {path: _kaggle(path, options.votes)}, [path], KAGGLE
    labels: dict[str, Mapping[str, float]] = {}
    official: dict[str, str] = {}
    for path, of_film in said.items():
        twice = next((film for film in of_film if film in labels), None)
        if twice is not None:
            raise FilmsError(f"film must be in one table of labels, got {twice!r} in {path} too. {_MEND}.")
        labels |= of_film
        official |= dict.fromkeys(of_film, marks.get(path, ""))
    paths = {film: found.image(film) for film in labels}
    headers, damaged = read_headers(found.folder, [path for path in paths.values() if path is not None], _TAGS)
    boxes = [box for path in boxed for box in _boxes(path, found.folder, labels, paths, headers)]
    rows = (
        Row(
            film=film,
            path=paths[film],
            patient=film,
            study=film,
            view="PA",
            age=_age(headers.get(paths[film] or "", {}).get("PatientAge", "")),
            sex=headers.get(paths[film] or "", {}).get("PatientSex", ""),
            said=of_film,
        )
        for film, of_film in labels.items()
    )
    return films_of(
        rows,
        "vindr",
        found,
        table=next(iter(said)),
        options=options,
        about="VinDr-CXR",
        words=words,
        official=official if marks else None,
        boxes=boxes,
        boxes_file=boxed[0] if boxed else None,
        patients_are_films=True,
        problems={"header": damaged},
        notes={"votes": options.votes},
    )


def _physionet(path: Path, votes: int) -> dict[str, Mapping[str, float]]:
    """What a table says of each film: a row for each reader, or one of consensus where it has no column of readers."""
    of_readers = "rad_id" in read_header(path)
    columns = (*LOCAL, *GLOBAL, NO_FINDING)
    wanted = ("image_id", *(("rad_id",) if of_readers else ()), *columns)
    table = read_table(path, wanted, other_names={"Other diseases": "Other disease"})
    films = table.parse("image_id", lambda text: text or None, "not be empty", _MEND)
    rule = "be 0 or 1"
    values = [table.parse(name, lambda text: _BINARY.get(text), rule, _MEND) for name in columns]
    rows: dict[str, list[int]] = {}
    for index, film in enumerate(films):
        rows.setdefault(film, []).append(index)
        if len(rows[film]) > (READERS if of_readers else 1):
            count = f"have at most {READERS} rows" if of_readers else "have one row"
            raise table.fault("image_id", index, count, _MEND)
    if of_readers:
        _refuse_reader_twice(table, rows)
    needed = votes if of_readers else 1
    return {
        film: _said(
            {name: sum(column[index] for index in of) for name, column in zip(columns, values, strict=True)}, needed
        )
        for film, of in rows.items()
    }


def _refuse_reader_twice(table: TextTable, rows: Mapping[str, list[int]]) -> None:
    readers = table.columns["rad_id"]
    for of in rows.values():
        for place, index in enumerate(of):
            if any(readers[index] == readers[other] for other in of[:place]):
                raise table.fault("rad_id", index, "read each film once", _MEND)


def _kaggle(path: Path, votes: int) -> dict[str, Mapping[str, float]]:
    """The same of Kaggle's table: a row for each reader and box."""
    table = read_table(path, ("image_id", "class_name", "rad_id"))
    films = table.parse("image_id", lambda text: text or None, "not be empty", _MEND)
    names = table.parse("class_name", _kaggle_name, f"be {NO_FINDING} or one of {', '.join(KAGGLE)}", _MEND)
    readers: dict[str, dict[str, set[str]]] = {}
    for film, name, reader in zip(films, names, table.columns["rad_id"], strict=True):
        readers.setdefault(film, {}).setdefault(name, set()).add(reader)
    return {film: {name: float(len(of.get(name, ())) >= votes) for name in KAGGLE} for film, of in readers.items()}


def _kaggle_name(text: str) -> str | None:
    return text if text in KAGGLE or text == NO_FINDING else None


def _said(counts: Mapping[str, int], needed: int) -> Mapping[str, float]:
    said = {name: float(count >= needed) for name, count in counts.items()}
    if any(value for name, value in said.items() if name != NO_FINDING):
        said.pop(NO_FINDING)
    return said


_BINARY = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


def _boxes(
    path: Path,
    folder: Path,
    labels: Mapping[str, Mapping[str, float]],
    paths: Mapping[str, str | None],
    headers: Headers,
) -> list[dict[str, Any]]:
    """The boxes of what the labels say is present, as fractions; films whose size nobody tells have none."""
    table = read_table(path, ("image_id", "class_name", *_CORNERS))
    corners = [table.parse(name, _pixels, "be a number of pixels from 0, or empty", _MEND) for name in _CORNERS]
    boxes: list[dict[str, Any]] = []
    films, names = table.columns["image_id"], table.columns["class_name"]
    for index, (film, name, *box) in enumerate(zip(films, names, *corners, strict=True)):
        findings = shown_by("vindr", name)
        of_film = labels.get(film)
        if of_film is None:
            raise table.fault("image_id", index, "be a film of the table of labels", _MEND)
        place, size = paths[film], _size(headers.get(paths[film] or "", {}))
        if not findings or place is None or of_film.get(name) != 1 or size is None:
            continue
        left, top, right, bottom = box
        if any(math.isnan(value) for value in box):
            continue
        made = [box_of(film, finding, left, top, right - left, bottom - top, size=size) for finding in findings]
        if None in made:
            rule = f"enclose a part of the film of {size[0]} x {size[1]} pixels"
            raise table.fault("x_max", index, rule, "Take the films in their own size, or leave the boxes' table away")
        boxes += [box for box in made if box is not None]
    return boxes


def _size(header: Mapping[str, str]) -> tuple[int, int] | None:
    width, height = header.get("Columns", ""), header.get("Rows", "")
    return (int(width), int(height)) if width.isdigit() and height.isdigit() and int(width) and int(height) else None


def _pixels(text: str) -> float | None:
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf and "_" not in text else None


def _age(text: str) -> float:
    """A tag's age: often empty, and 000Y means that nobody wrote one."""
    age = years(text)
    return age if age else math.nan
