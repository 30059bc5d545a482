"""What readers of data sets share: options, words for views, sexes, splits and ages, and how rows become films."""

import json
import math
import re
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.data.films import OLDEST_YEARS, Films, validate
from hilum.data.tables import SourceFolder, read_header
from hilum.data.vocabulary import Blank, Chosen, Said, findings_of, labeller, only_extremes
from hilum.errors import FilmsError
from hilum.findings import SIMULATED, SIMULATED_JSON

VIEWS = {
    **dict.fromkeys(("", "unknown", "unk"), "unknown"),
    **{"pa": "PA", "ap": "AP", "ap_horizontal": "AP"},
    **dict.fromkeys(("lateral", "lat", "ll", "rl", "l"), "LATERAL"),
}
"""The manifest's view by a source's word for it, in lower case."""
SEXES = {
    **dict.fromkeys(("", "u", "o", "unknown"), "unknown"),
    **dict.fromkeys(("m", "male"), "M"),
    **dict.fromkeys(("f", "female"), "F"),
}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_AGE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) ?([YMWD]?)")
_WORDS_OF_AGES = re.compile(r" ?(?:(YRS?|YEARS?|ANS?|AÑOS|ANOS|JAHRE?|ЛЕТ|ГОДА?)\b|歳|岁|세)\.?(?: OLD)?$")
_OPEN_AGE = re.compile(r" ?(\+|OR (MORE|OLDER|ABOVE))$")


@dataclass(frozen=True)
class Options:
    """What the command line says beside the folder.

    Attributes:
        labels: the label file, where the folder has none or several.
        mapping: of `csv`: the file that says what the table's columns mean.
        blank: what a finding means that a row does not mention; the source's usual if None.
        labeller: of `mimic`: whose labels of the reports, chexpert or negbio.
        votes: of `vindr`: how many of a film's three readers must see a finding.
        vocabulary: which findings the manifest gets.
    """

    labels: Path | None = None
    mapping: Path | None = None
    blank: Blank | None = None
    labeller: str = "chexpert"
    votes: int = 2
    vocabulary: Chosen = "own"


@dataclass(frozen=True, slots=True)
class Row:
    """A film as its source describes it; view and sex in the source's words, the age in years.

    Attributes:
        path: below the folder; None if there is no such image.
        said: what is known of findings, in the vocabulary's words for the source; None if nobody labelled the film.
    """

    film: str
    path: str | None
    patient: str
    study: str
    said: Said | None
    view: str = ""
    age: float = math.nan
    sex: str = ""


def films_of(
    rows: Iterable[Row],
    source: str,
    found: SourceFolder,
    *,
    table: Path,
    options: Options,
    about: str,
    words: Collection[str] | None = None,
    official: Mapping[str, str] | None = None,
    boxes: Sequence[Mapping[str, Any]] = (),
    boxes_file: Path | None = None,
    boxes_listed: int | None = None,
    patients_are_films: bool = False,
    problems: Mapping[str, Sequence[str]] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Films:
    """The films of a source: its words mapped to the vocabulary, and what is wrong named by film.

    Rows without an image, images without a row, unbelievable ages, views and sexes that have no word here, and films
    without any label are named in `notes["problems"]`.

    Args:
        table: the label file, for messages and notes.
        about: the source in words.
        words: those that the table can say; all of the source if None.
        official: film -> train, val, test or train_val, as the publisher split them.
        boxes: as fractions of the film's width and height; those of films that are not there are left out.
        boxes_listed: how many boxes there are in all, where `boxes` are fewer.
        patients_are_films: no patients are published, and each film counts as one.
        problems: what the reader found itself, films by kind.
        notes: further notes.

    Raises:
        FilmsError: if no film of the table is in the folder, two rows have one name, or a value cannot be right.
    """
    findings = findings_of(source, options.vocabulary)
    labels_of = labeller(source, findings, blank=options.blank or "absent", words=words)
    known: dict[Any, tuple[float, ...]] = {}
    labels, ages = array("f"), array("d")
    texts: dict[str, list[str]] = {name: [] for name in ("film", "path", "patient", "study", "view", "sex")}
    missing: list[str] = []
    wrong: dict[str, list[str]] = {name: [] for name in ("age", "view", "sex", "unlabelled")}
    count = 0
    for row in rows:
        count += 1
        if row.path is None:
            missing.append(row.film)
            continue
        said = row.said
        key = None if said is None else tuple(sorted(said.items()))
        if key not in known:
            known[key] = labels_of(said)
        labels.extend(known[key])
        view, sex, age = VIEWS.get(row.view.lower()), SEXES.get(row.sex.lower()), row.age
        if age > OLDEST_YEARS:
            age = math.nan
            wrong["age"].append(row.film)
        for name, value in (("view", view), ("sex", sex)):
            if value is None:
                wrong[name].append(row.film)
        if said is None:
            wrong["unlabelled"].append(row.film)
        ages.append(age)
        values = (row.film, row.path, row.patient, row.study, view or "unknown", sex or "unknown")
        for column, text in zip(texts.values(), values, strict=True):
            column.append(text)
    if not texts["film"]:
        example = f", for example {next(iter(found.images.values()))!r}" if found.images else ""
        raise FilmsError(
            f"folder must hold images that {table} lists, got {len(found.images)} others in {found.folder}{example}. "
            "Give the label file of these images with --labels."
        )
    simulated = (table.parent / SIMULATED_JSON).is_file() or (found.folder / SIMULATED_JSON).is_file()
    films = pd.DataFrame(
        {
            "film": texts["film"],
            "path": texts["path"],
            "source": _source(source, simulated),
            "patient": texts["patient"],
            "study": texts["study"],
            "view": texts["view"],
            "age": np.frombuffer(ages, dtype=np.float64),
            "sex": texts["sex"],
            "split": pd.Series([None] * len(ages), dtype="str"),
        }
    )
    said_labels = np.frombuffer(labels, dtype=np.float32).reshape(len(ages), len(findings))
    films = pd.concat([films, pd.DataFrame(said_labels, columns=list(findings))], axis="columns")
    listed = set(texts["path"])
    names = set(texts["film"])
    extremes = list(only_extremes(source, findings))
    all_notes = {
        "source": f"{'simulated films' if simulated else about} in {found.folder}",
        "labels": str(table),
        "rows": count,
        "problems": {
            "missing": missing,
            "unlisted": [path for path in found.images.values() if path not in listed],
            "same_name": found.same_name,
            "age": wrong.pop("age"),
            **{name: films_with for name, films_with in wrong.items() if films_with},
            **{name: list(films_with) for name, films_with in (problems or {}).items()},
        },
        "protocol": None,
        "split_seed": None,
        **({"system_files": found.system_files} if found.system_files else {}),
        "boxes": [dict(box) for box in boxes if box["film"] in names],
        "boxes_file": None if boxes_file is None else str(boxes_file),
        "boxes_listed": len(boxes) if boxes_listed is None else boxes_listed,
        **({"official": {film: split for film, split in official.items() if film in names}} if official else {}),
        **({"patients_are_films": True} if patients_are_films else {}),
        **({"only_extremes": {films["source"].iloc[0]: extremes}} if extremes else {}),
        **({"group": _simulated_group(table, found)} if simulated else {}),
        **(notes or {}),
    }
    validate(films, findings, table)
    return Films(films, found.folder, findings, all_notes)


def _simulated_group(table: Path, found: SourceFolder) -> str:
    """Phantom films of one seed show the same patients, whatever their layout."""
    places = (table.parent / SIMULATED_JSON, found.folder / SIMULATED_JSON)
    try:
        facts = json.loads(next(place for place in places if place.is_file()).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = {}
    return f"{SIMULATED}-seed-{facts.get('seed', '?') if isinstance(facts, dict) else '?'}"


def _source(source: str, simulated: bool) -> str:
    if not simulated:
        return source
    return SIMULATED if source == "nih" else f"{SIMULATED}-{source}"


def box_of(
    film: str,
    finding: str,
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    size: tuple[float, float] | tuple[int, int],
) -> dict[str, Any] | None:
    """A box in pixels as fractions of the film's width and height; None if it is empty or ends outside the film."""
    across, down = size
    box = {"x": x / across, "y": y / down, "width": width / across, "height": height / down}
    inside = box["x"] >= 0 and box["y"] >= 0 and box["width"] > 0 and box["height"] > 0
    if not inside or box["x"] + box["width"] > 1 + 1e-6 or box["y"] + box["height"] > 1 + 1e-6:
        return None
    return {"film": film, "finding": finding, **box}


def label_file(found: SourceFolder, options: Options, *patterns: str, column: str) -> Path:
    """The label file: the one of --labels, else the one below the folder or beside it that has this column.

    Args:
        patterns: of its name, the usual one first.

    Raises:
        FilmsError: if there is none, or several.
    """
    if options.labels is not None:
        return options.labels
    for pattern in patterns:
        named = [*found.files_like(pattern), *sorted(found.folder.parent.glob(pattern))]
        fitting = [path for path in named if path.is_file() and column in read_header(path)]
        if len(fitting) > 1 and len({path.name for path in fitting}) > 1:
            names = ", ".join(str(path) for path in fitting[:3])
            raise FilmsError(f"label file must be one, got {len(fitting)}: {names}. Choose one with --labels.")
        if fitting:
            return fitting[0]
    raise FilmsError(
        f"label file must be {patterns[0]} with a column {column!r}, got none in {found.folder} or its parent. "
        "Name it with --labels."
    )


def years(text: str) -> float | None:
    """An age such as 58, 058Y, 6M, 45yrs or "85 or more"; NaN if the text is empty, None if it is no age."""
    if not text:
        return math.nan
    plain = _WORDS_OF_AGES.sub("Y", _OPEN_AGE.sub("", text.upper()))
    match = _AGE.fullmatch(plain)
    return float(match[1]) * _YEARS[match[2]] if match else None


def years_between(born: str, taken: str) -> float:
    """The age from two years, or from dates that begin with them; NaN if it cannot be told."""
    first, last = (re.match(r"([0-9]{4})(?![0-9]{1,3}$)", text) for text in (born, taken))
    if first is None or last is None or int(last[1]) < int(first[1]):
        return math.nan
    return float(int(last[1]) - int(first[1]))
