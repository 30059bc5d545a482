"""RSNA Pneumonia Detection Challenge: folder -> Films.

Target 1 means an opacity that is suspicious for pneumonia, so it says that Lung Opacity is present and nothing of
pneumonia; Target 0 says that neither is. `patientId` names a film: patients are known through the organizers' mapping
to ChestX-ray14 alone, and are then ChestX-ray14's. Without it each film counts as a patient.

Source: Shih et al., "Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of
Possible Pneumonia", Radiology: Artificial Intelligence 1, 2019. https://doi.org/10.1148/ryai.2019180041
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hilum.data.films import Films
from hilum.data.sources.headers import Headers, read_headers
from hilum.data.sources.reading import Options, Row, box_of, films_of, label_file, years
from hilum.data.tables import FILM_ENDINGS, SourceFolder, TextTable, read_table
from hilum.errors import FilmsError

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
SIDE = 1024
"""Boxes count in pixels of the films as they were published: 1024 a side."""

_SIDES = ("x", "y", "width", "height")
_TAGS = ("PatientAge", "PatientSex", "ViewPosition")
_IMAGE = re.compile(r"0*([0-9]+)_[0-9]+\.png")
_MEND = "Mend the row, or take the file as it was published"


def index_rsna(folder: Path, options: Options) -> Films:
    """List the challenge's training films. Views, ages and sexes come from a table of headers, else from the headers.

    Raises:
        FilmsError: if images or labels are missing, or a cell cannot be right, by file, row and column.
    """
    found = SourceFolder.below(folder, endings=FILM_ENDINGS)
    path = label_file(found, options, LABELS, column="Target")
    table = read_table(path, ("patientId", *_SIDES, "Target"))
    films = table.parse("patientId", lambda text: text or None, "not be empty", _MEND)
    targets = table.parse("Target", lambda text: {"0": 0.0, "1": 1.0}.get(text), "be 0 or 1", _MEND)
    first: dict[str, int] = {}
    for index, film in enumerate(films):
        before = first.setdefault(film, index)
        if targets[before] != targets[index]:
            rule = f"be the same in all rows of a film, but row {table.rows[before]} has another"
            raise table.fault("Target", index, rule, _MEND)
    paths = {film: found.image(film) for film in first}
    headers, damaged = _headers(found, paths)
    patients = _patients(found, path)
    said = {value: {"Target": value} for value in (0.0, 1.0)}
    rows = (
        Row(
            film=film,
            path=paths[film],
            patient=patients.get(film, film),
            study=film,
            view=headers.get(film, {}).get("ViewPosition", ""),
            age=_age(headers.get(film, {}).get("PatientAge", "")),
            sex=headers.get(film, {}).get("PatientSex", ""),
            said=said[targets[index]],
        )
        for film, index in first.items()
    )
    boxes = _boxes(table, films, targets, paths)
    return films_of(
        rows,
        "rsna",
        found,
        table=path,
        options=options,
        about="RSNA Pneumonia Detection Challenge",
        words=("Target",),
        boxes=boxes,
        boxes_file=path,
        boxes_listed=int(sum(targets)),
        patients_are_films=not patients,
        problems={"header": damaged, "unmapped": [film for film in first if film not in patients] if patients else []},
        notes={"classes": _classes(found, path, first, targets), **({"patients_of": "nih"} if patients else {})},
    )


def _boxes(
    table: TextTable, films: list[str], targets: list[float], paths: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    pixels = [table.parse(side, _pixels, f"be a number of pixels from 0 to {SIDE}, or empty", _MEND) for side in _SIDES]
    boxes = []
    for index, (film, target, *sides) in enumerate(zip(films, targets, *pixels, strict=True)):
        empty = [math.isnan(side) for side in sides]
        if any(empty) != (target == 0) or any(empty) != all(empty):
            place = empty.index(target == 1) if (target == 1) in empty else 0
            rule = "be empty if Target is 0, and be numbers if it is 1"
            raise table.fault(_SIDES[place], index, rule, _MEND)
        if target == 0 or paths[film] is None:
            continue
        box = box_of(film, "Lung Opacity", *sides, size=(SIDE, SIDE))
        if box is None:
            raise table.fault("width", index, f"end inside the film of {SIDE} x {SIDE} pixels", _MEND)
        boxes.append(box)
    return boxes


def _pixels(text: str) -> float | None:
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= SIDE and "_" not in text else None


def _headers(found: SourceFolder, paths: Mapping[str, str | None]) -> tuple[Headers, list[str]]:
    """View, age and sex of each film, by its name: from a table of headers if there is one."""
    for path in found.files_like("*dicom_headers*.csv"):
        table = read_table(path, ("PatientID", *_TAGS))
        columns = [table.columns[tag] for tag in _TAGS]
        names = table.columns["PatientID"]
        return {film: dict(zip(_TAGS, of, strict=True)) for film, *of in zip(names, *columns, strict=True)}, []
    films = {path: film for film, path in paths.items() if path is not None}
    headers, damaged = read_headers(found.folder, films, _TAGS)
    return {films[path]: header for path, header in headers.items()}, damaged


def _patients(found: SourceFolder, labels: Path) -> dict[str, str]:
    """ChestX-ray14's patient of each film, where the organizers' mapping is beside the films."""
    path = found.file(MAPPING, labels.parent)
    if path is None:
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(str(one["subset_img_id"]), _IMAGE.fullmatch(str(one["img_id"]))) for one in listed]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise FilmsError(
            f"mapping must be a list of pairs subset_img_id and img_id, got {type(error).__name__} in {path}. "
            "Download it again, or remove it: then films count as patients."
        ) from error
    wrong = next((film for film, image in pairs if image is None), None)
    if wrong is not None:
        raise FilmsError(
            f"img_id must be ChestX-ray14's name of a film, got another of {wrong!r} in {path}. Download it again."
        )
    return {film: image[1] for film, image in pairs if image is not None}


def _classes(found: SourceFolder, labels: Path, first: Mapping[str, int], targets: list[float]) -> dict[str, int]:
    """How many films each detailed class has; a class that contradicts the Target is an error."""
    path = found.file(CLASSES, labels.parent)
    if path is None:
        return {}
    table = read_table(path, ("patientId", "class"))
    of_film: dict[str, str] = {}
    for index, (film, said) in enumerate(zip(table.columns["patientId"], table.columns["class"], strict=True)):
        if film in first and (said == "Lung Opacity") != (targets[first[film]] == 1):
            rule = f"be Lung Opacity if Target is 1, and only then ({labels.name} says {targets[first[film]]:.0f})"
            raise table.fault("class", index, rule, _MEND)
        of_film[film] = said
    return dict(Counter(of_film.values()))


def _age(text: str) -> float:
    age = years(text)
    return math.nan if age is None else age
