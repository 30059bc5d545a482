"""NIH ChestX-ray14, as NIH publishes it or as Kaggle lays it out: folder -> Films.

Source: Wang et al., "ChestX-ray8", CVPR 2017. https://nihcc.app.box.com/v/ChestXray-NIHCC
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hilum.data.films import Films
from hilum.data.sources.reading import SEXES, VIEWS, Options, Row, films_of, years
from hilum.data.tables import (
    SourceFolder,
    TextTable,
    base_name,
    film_key,
    read_header,
    read_table,
    read_text,
    shown,
    was_rounded,
)
from hilum.data.vocabulary import Chosen
from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, NO_FINDING, canonical

BOXES_SIDE = 1024.0
"""BBox_List_2017.csv counts in pixels of the films as NIH published them: 1024 a side."""

_LABEL_FILES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_LABEL_COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
)
_BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
_NUMBER = re.compile(r"([0-9]{1,20})(?:\.0)?")
_MEND = "Mend the row in the label file"


def index_nih(folder: Path, *, labels: Path | None = None, vocabulary: Chosen = "own") -> Films:
    """List the films of a folder that a label file describes; no image is opened.

    Images are found by base name, wherever they lie below the folder and whatever case their ending has. Of two with
    the same base name the shallowest wins, then the alphabetically first. Rows without an image, images without a row,
    second images of the same name and unbelievable ages are named in `notes["problems"]`.

    Args:
        labels: the label file; found in the folder or its parent where it is not given.
        vocabulary: which findings the manifest gets.

    Raises:
        FilmsError: if there is no image, no label file, or a value in a file that cannot be right, by row and column.
    """
    found = SourceFolder.below(folder)
    label_file = labels if labels is not None else _find_labels(found)
    entries = read_table(label_file, _LABEL_COLUMNS, other_names={"Patient Gender": "Patient Sex"})
    rows = list(_rows(entries, found))
    official, notes = _companions(found, label_file, {film_key(row.film): row.film for row in rows if row.path})
    return films_of(
        rows,
        "nih",
        found,
        table=label_file,
        options=Options(vocabulary=vocabulary),
        about="NIH ChestX-ray14",
        official=official,
        **notes,
    )


def _find_labels(found: SourceFolder) -> Path:
    for name in _LABEL_FILES:
        path = found.file(name)
        if path is not None:
            return path
    beside = sorted(path for path in found.folder.parent.glob("*.csv") if path.is_file())
    for candidates in (found.texts, beside):
        fitting = [path for path in candidates if _is_label_file(path)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(str(path) for path in fitting[:3])
            raise FilmsError(f"label file must be one, got {len(fitting)}: {names}. Choose one with --labels.")
    raise FilmsError(
        f"label file must be {_LABEL_FILES[0]} or another CSV with the columns 'Image Index' and 'Finding Labels', "
        f"got none in {found.folder} or its parent. Name it with --labels."
    )


def _is_label_file(path: Path) -> bool:
    if path.suffix.lower() != ".csv" or path.name.lower().startswith(("bbox", "google2019")):
        return False
    return {"Image Index", "Finding Labels"} <= set(read_header(path))


def _rows(entries: TextTable, found: SourceFolder) -> Iterator[Row]:
    """The rows of a label file."""
    if not entries.rows:
        raise FilmsError(f"label file must list at least one film, got only a header in {entries.path}. {_MEND}.")
    _refuse_bad_names(entries)
    _refuse_rounded(entries)
    films = entries.columns["Image Index"]
    patients = entries.parse("Patient ID", _identity, "not be empty", _MEND)
    follow_ups = entries.parse("Follow-up #", _number, "be a whole number", _MEND)
    views = entries.parse("View Position", lambda text: VIEWS.get(text.lower()), "be PA, AP, LATERAL or empty", _MEND)
    sexes = entries.parse("Patient Gender", lambda text: SEXES.get(text.lower()), "be M, F or empty", _MEND)
    ages = entries.parse("Patient Age", years, "be years such as 58 or 058Y, or empty", _MEND)
    columns = zip(films, patients, follow_ups, views, sexes, ages, _said(entries), strict=True)
    for film, patient, number, view, sex, age, said in columns:
        yield Row(film, found.image(film), patient, f"{patient}_{number}", said, view, age, sex)


def _refuse_bad_names(entries: TextTable) -> None:
    films = entries.columns["Image Index"]
    first: dict[str, int] = {}
    for index, film in enumerate(films):
        if not film or "/" in film or "\\" in film:
            raise entries.fault("Image Index", index, "be a file name without a folder", _MEND)
        before = first.setdefault(film_key(film), index)
        if before != index:
            rule = f"be unique, but row {entries.rows[before]} is the same film"
            raise entries.fault("Image Index", index, rule, "Remove one of the two rows from the label file")


def _refuse_rounded(entries: TextTable) -> None:
    """Refuse ids that a spreadsheet has rounded: several patients would become one, and lie in two splits at once."""
    for index, text in enumerate(entries.columns["Patient ID"]):
        if was_rounded(text):
            raise entries.fault(
                "Patient ID",
                index,
                "be an id as it was, not a number that a spreadsheet has rounded",
                "Take the file that the spreadsheet was opened from, and read this column in as text",
            )


def _said(entries: TextTable) -> list[dict[str, float]]:
    """The findings that a row names; `No Finding` is a row of none."""
    texts = entries.columns["Finding Labels"]
    said: dict[str, dict[str, float]] = {}
    for text in dict.fromkeys(texts):
        words = [word.strip() for word in text.split("|")]
        try:
            said[text] = {NO_FINDING: 1.0} if words == [NO_FINDING] else {canonical(word): 1.0 for word in words}
        except FilmsError:
            wrong = next(word for word in words if _finding(word) is None)
            rule = f"be {NO_FINDING!r} alone or findings joined by '|' ({shown(wrong)} is none)"
            remedy = f"The findings are {', '.join(CHESTXRAY14)}"
            raise entries.fault("Finding Labels", texts.index(text), rule, remedy) from None
    return [said[text] for text in texts]


def _identity(text: str) -> str | None:
    """A patient's id, without leading zeros or the '.0' that spreadsheets add."""
    return _number(text) or text or None


def _number(text: str) -> str | None:
    match = _NUMBER.fullmatch(text)
    return (match[1].lstrip("0") or "0") if match else None


def _companions(
    found: SourceFolder, label_file: Path, films: dict[str, str]
) -> tuple[dict[str, str] | None, dict[str, Any]]:
    """What NIH's two lists and the boxes file, where there are any, say about the films that were found."""
    notes: dict[str, Any] = {}
    box_file = found.file("BBox_List_2017.csv", label_file.parent)
    if box_file is not None:
        listed = _boxes(box_file)
        boxes = [{**box, "film": films[film_key(box["film"])]} for box in listed if film_key(box["film"]) in films]
        notes = {"boxes": boxes, "boxes_file": box_file, "boxes_listed": len(listed)}
    lists: dict[str, dict[str, int]] = {}
    for split, name in (("train_val", "train_val_list.txt"), ("test", "test_list.txt")):
        list_file = found.file(name, label_file.parent)
        if list_file is not None:
            lists[split] = _list(list_file)
    official = {film: split for split, names in lists.items() for key, film in films.items() if key in names}
    if len(lists) == 2:
        train_val, test = lists.values()
        if not official and (train_val or test):
            example = next(iter(train_val or test))
            raise FilmsError(
                f"lists must name films of the label file, got none of its {len(films)} among the {len(train_val)} of "
                f"train_val_list.txt and the {len(test)} of test_list.txt, for example {shown(example)}. "
                "Download NIH's lists again, or remove both"
            )
        both = next((key for key in test if key in train_val), None)
        if both is not None:
            raise FilmsError(
                f"film must be in one of NIH's two lists, got {both!r} in test_list.txt, row {test[both]} and in "
                f"train_val_list.txt, row {train_val[both]}. Download NIH's lists again."
            )
    return official, notes


def _boxes(path: Path) -> list[dict[str, Any]]:
    """Boxes as fractions of the film's width and height."""
    table = read_table(path, _BOX_COLUMNS)
    remedy = "Mend the row, or remove the file"
    findings = table.parse("Finding Label", _finding, "be a finding", f"The findings are {', '.join(CHESTXRAY14)}")
    sides = [
        table.parse(name, _fraction, f"be a number of pixels from 0 to {BOXES_SIDE:.0f}", remedy)
        for name in _BOX_COLUMNS[2:]
    ]
    films = table.parse("Image Index", lambda text: base_name(text) or None, "not be empty", remedy)
    boxes = []
    for index, (film, finding, x, y, width, height) in enumerate(zip(films, findings, *sides, strict=True)):
        for column, start, extent in (("w", x, width), ("h]", y, height)):
            if extent == 0 or start + extent > 1 + 1e-6:
                raise table.fault(column, index, "be above 0 and end inside the film", remedy)
        boxes.append({"film": film, "finding": finding, "x": x, "y": y, "width": width, "height": height})
    return boxes


def _finding(text: str) -> str | None:
    try:
        return canonical(text)
    except FilmsError:
        return None


def _fraction(text: str) -> float | None:
    try:
        value = float(text) / BOXES_SIDE
    except ValueError:
        return None
    return value if 0 <= value <= 1 and "_" not in text else None


def _list(path: Path) -> dict[str, int]:
    """The films of one of NIH's lists, by key, with their rows; quotes, commas and folders are no part of a name."""
    rows: Iterable[tuple[int, str]] = enumerate(read_text(path).splitlines(), start=1)
    names = ((row, base_name(line.strip().strip("\"',; \t"))) for row, line in rows)
    return {film_key(name): row for row, name in names if name}
