"""A second opinion on some films, such as radiologists' labels: read from CSV or Parquet, checked cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from hilum.data.cells import Cells, read_cells
from hilum.data.predictions import base_name, film_column, film_ids
from hilum.errors import FilmsError, PredictionsError
from hilum.findings import COMPOSITES, canonical

_WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0, "present": 1.0, "absent": 0.0, "": np.nan, "nan": np.nan}

_EXAMPLE = (
    "A file looks like this: film,Pneumothorax,Nodule or mass and then a line per film with YES or NO, or 1 or 0."
)


@dataclass(frozen=True)
class Reference:
    """Labels by film: 1 present, 0 absent, NaN unknown.

    Attributes:
        films: their names in the file.
        labels: by finding, or composite of findings, of those films.
        others: columns of yes and no that are no finding of Hilum.
    """

    path: Path
    films: tuple[str, ...]
    labels: dict[str, Float64[np.ndarray, " films"]]
    others: tuple[str, ...]

    def of(self, films: Sequence[str]) -> dict[str, Float64[np.ndarray, " films"]]:
        """The labels of these films, NaN for those that the reference does not hold.

        A film is found under its own name, or by its base name without the image suffix.

        Raises:
            PredictionsError: if none is found, or one fits several rows.
        """
        rows: dict[str, list[int]] = {}
        for row, film in enumerate(self.films):
            for name in {film, base_name(film)}:
                rows.setdefault(name, []).append(row)
        places = np.full(len(films), -1)
        for i, film in enumerate(films):
            found = rows.get(film) or rows.get(base_name(film), [])
            if len(found) > 1:
                two = " and ".join(repr(self.films[row]) for row in found[:2])
                raise PredictionsError(
                    f"reference must have one row for a film, got {two} for {film!r} in {self.path}. Remove one."
                )
            places[i] = found[0] if found else -1
        known = places[places >= 0]
        if len(np.unique(known)) < len(known):
            row = int(np.bincount(known).argmax())
            raise PredictionsError(
                f"reference must have a row for each film, got {self.films[row]!r}, which fits several judged films, "
                f"in {self.path}. Write the manifest's own names."
            )
        if (places < 0).all():
            raise PredictionsError(
                f"reference must hold some of the judged films, whose names are such as {films[0]!r}, got none among "
                f"{len(self.films):,} such as {self.films[0]!r} in {self.path}. Give labels of these films, or judge "
                "another split."
            )
        return {name: np.where(places < 0, np.nan, column[places]) for name, column in self.labels.items()}


def read_reference(path: Path) -> Reference:
    """A table with a column of film names and columns of labels: a finding's name, or that of a composite.

    Labels are YES or NO, 1 or 0, true or false; empty is unknown. Such is the file of adjudicated labels that Google
    published for films of ChestX-ray14 (also gzipped, as torchxrayvision ships it); its other columns are not used.

    Raises:
        PredictionsError: naming file, row and column of what cannot be used.

    Source: Majkowska et al., "Chest radiograph interpretation with deep learning models", Radiology 294, 2020.
    """
    cells = read_cells(path)
    film = film_column(cells)
    chosen: dict[str, int] = {}
    for column, name in enumerate(cells.names):
        finding = _finding(name)
        if finding is None or column == film:
            continue
        if finding in chosen:
            twice = f"{cells.names[chosen[finding]]!r} and {name!r}"
            raise PredictionsError(f"{finding} must have one column, got {twice} in {path}. Remove one of them.")
        chosen[finding] = column
    if not chosen:
        raise PredictionsError(
            f"reference must have a column for at least one finding, got {', '.join(cells.names[:8])} in {path}. "
            f"{_EXAMPLE}"
        )
    films = film_ids(cells, film)
    others = [
        name
        for column, name in enumerate(cells.names)
        if column not in chosen.values() and set(map(_word, cells.columns[column])) <= {"yes", "no"}
    ]
    labels = {finding: _labels(cells, column) for finding, column in chosen.items()}
    return Reference(path, tuple(films), labels, tuple(others))


def _finding(name: str) -> str | None:
    plain = name.strip().replace("_", " ").lower()
    for composite in COMPOSITES:
        if composite.lower() == plain:
            return composite
    try:
        return canonical(name)
    except FilmsError:
        return None


def _word(value: object) -> str:
    return "" if value is None else str(value).strip().lower()


def _labels(cells: Cells, column: int) -> Float64[np.ndarray, " films"]:
    labels = np.empty(len(cells.rows))
    for row, value in enumerate(cells.columns[column]):
        word = _word(value)
        try:
            label = _WORDS[word] if word in _WORDS else float(word)
        except ValueError:
            label = -1.0
        if label not in (0.0, 1.0) and not np.isnan(label):
            raise PredictionsError(
                f"labels must be YES or NO, 1 or 0, or empty, got {word!r} in {cells.place(row, column)}. "
                "Mend the cell, or remove the column."
            )
        labels[row] = label
    return labels
