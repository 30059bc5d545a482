"""Anyone's table of scores: read from CSV or Parquet, checked cell by cell, and matched with a manifest's films."""

import re
import reprlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from hilum.data.cells import EXAMPLE, Cells, read_cells
from hilum.data.films import Films
from hilum.errors import FilmsError, PredictionsError
from hilum.findings import CHESTXRAY14, canonical

FILM_COLUMNS = ("film", "image index", "image", "image id", "filename", "file name", "file", "path", "image path", "id")
"""What other systems call the film's id, whatever the case and underscores; the first that is there is taken."""

_SCORE_WORDS = {
    "prob",
    "probs",
    "probability",
    "score",
    "scores",
    "pred",
    "preds",
    "prediction",
    "p",
    "logit",
    "logits",
}
_TRUTH_WORDS = {"label", "labels", "true", "truth", "target", "targets", "gt", "reference", "call", "calls"}
_MANIFEST = {"film", "path", "source", "patient", "study", "view", "split"}
"""Columns that tell a manifest from a table of scores."""

_IMAGE_SUFFIX = re.compile(r"\.(png|jpe?g|dcm|dicom|tiff?|bmp|webp)$", re.IGNORECASE)


def read_predictions(path: Path) -> pd.DataFrame:
    """A column `film`, then a float column per finding; the index is the file's row, in CSV the header being row 1.

    Columns may come in any order and share a prefix or suffix (prob_Effusion, Effusion_score). `attrs` says what was
    done: "file", "affix" (such as "prob_*") and "ignored_columns".

    Raises:
        PredictionsError: naming file, row and column of what cannot be judged.
    """
    cells = read_cells(path)
    if set(cells.names) >= _MANIFEST:
        raise PredictionsError(
            f"predictions must hold scores, got a manifest of films with their labels in {path}, which would be "
            "judged against themselves. Name a bundle or a table of scores, and the manifest as --films."
        )
    films_at = film_column(cells)
    affix, chosen = _score_columns(cells)
    films = film_ids(cells, films_at)
    scores = {finding: _numbers(cells, column, films) for finding, column in chosen.items()}
    table = pd.DataFrame({"film": films, **scores}, index=pd.Index(cells.rows, name="row"))
    used = {films_at, *chosen.values()}
    ignored = [name or "(no name)" for i, name in enumerate(cells.names) if i not in used]
    table.attrs = {"file": str(path), "affix": affix, "ignored_columns": ignored}
    return table


def match(films: Films, scores: pd.DataFrame, *, allow_unknown: bool = False) -> pd.DataFrame:
    """The same scores under the manifest's film ids, checked; `attrs` gains "unknown_films".

    An id that is not the manifest's own is matched by its base name without the image suffix.

    Args:
        scores: a column `film`, then a column of numbers per finding.
        allow_unknown: leave out films that the manifest does not hold, instead of refusing them.

    Raises:
        PredictionsError: if a film is unknown, ambiguous or there twice, or a score is not a finite number.
    """
    where = str(scores.attrs.get("file", "the table of scores"))
    if "film" not in scores.columns:
        raise PredictionsError(f"columns must include 'film', got {_listed(scores.columns)} in {where}. {EXAMPLE}")
    if not scores.columns.is_unique:
        raise PredictionsError(f"columns must be unique, got {_listed(scores.columns)} in {where}. Remove one.")
    for finding in [name for name in films.findings if name in scores.columns]:
        _check_finite(scores, finding, where)
    own = {str(film) for film in films.table["film"]}
    by_name: dict[str, list[str]] = defaultdict(list)
    for film in own:
        by_name[base_name(film)].append(film)
    found: list[str | None] = []
    unknown: list[str] = []
    seen: dict[str, object] = {}
    for row, film in zip(scores.index, map(str, scores["film"]), strict=True):
        candidates = [film] if film in own else by_name.get(base_name(film), [])
        if len(candidates) > 1:
            raise PredictionsError(
                f"film must name one film of the manifest, got {film!r} in {where}, row {row}, column 'film', which "
                f"fits {' and '.join(sorted(candidates)[:2])}. Write the manifest's own ids."
            )
        if not candidates:
            unknown.append(film)
            if not allow_unknown:
                raise PredictionsError(
                    f"film must be in the manifest, which has ids such as {min(own)!r}, got {film!r} in {where}, "
                    f"row {row}, column 'film'. Remove the row, or leave such films out with --allow-unknown."
                )
        elif candidates[0] in seen:
            raise PredictionsError(
                f"film must be there once, got {film!r} again in {where}, row {row}, column 'film' (first in row "
                f"{seen[candidates[0]]}). Keep one of the two rows."
            )
        else:
            seen[candidates[0]] = row
        found.append(candidates[0] if candidates else None)
    matched = scores.assign(film=pd.Series(found, index=scores.index, dtype=object))
    matched = matched[matched["film"].notna()]
    matched.attrs = {**scores.attrs, "unknown_films": unknown}
    return matched


def film_column(cells: Cells) -> int:
    """The column that names the films.

    Raises:
        PredictionsError: if there is none, or two.
    """
    names = [name.replace("_", " ").lower() for name in cells.names]
    for wanted in FILM_COLUMNS:
        if names.count(wanted) > 1:
            raise PredictionsError(
                f"column {wanted!r} must be there once, got two in {cells.path}. Remove one of them."
            )
        if wanted in names:
            return names.index(wanted)
    raise PredictionsError(
        f"columns must include 'film', got {_listed(cells.names)} in {cells.path}. Name the column of film ids 'film'."
    )


def _score_columns(cells: Cells) -> tuple[str, dict[str, int]]:
    """The columns of scores by finding, and what their names have in common around the finding's, such as "prob_*"."""
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for column, name in enumerate(cells.names):
        affix, finding = _affix_and_finding(name)
        if finding is None or _words(affix) & _TRUTH_WORDS:
            continue
        if finding in groups[affix]:
            twice = f"{cells.names[groups[affix][finding]]!r} and {name!r}"
            raise PredictionsError(f"{finding} must have one column, got {twice} in {cells.path}. Remove one of them.")
        groups[affix][finding] = column
    if not groups:
        raise PredictionsError(
            f"columns must include scores of at least one finding ({', '.join(CHESTXRAY14)}), got "
            f"{_listed(cells.names)} in {cells.path}. Name each column after its finding, for example prob_Effusion."
        )
    choices = [affix for affix in groups if _words(affix) & _SCORE_WORDS] or list(groups)
    if "*" in choices and all(len(groups[affix]) == 1 < len(groups["*"]) for affix in choices if affix != "*"):
        choices = ["*"]  # a stray "Breast_Mass" beside plain names is no second set
    if len(choices) > 1:
        two = " and ".join(repr(cells.names[next(iter(groups[affix].values()))]) for affix in choices[:2])
        raise PredictionsError(
            f"columns must hold one set of scores, got {two} in {cells.path}. Keep one set, named like prob_Effusion."
        )
    return choices[0], dict(groups[choices[0]])


def _affix_and_finding(name: str) -> tuple[str, str | None]:
    cuts = [cut.start() for cut in re.finditer(r"[^0-9A-Za-z]", name)]
    parts = [("*", name)]
    parts += [(name[: cut + 1] + "*", name[cut + 1 :]) for cut in cuts]
    parts += [("*" + name[cut:], name[:cut]) for cut in reversed(cuts)]
    for affix, rest in parts:
        try:
            return affix, canonical(rest)
        except FilmsError:
            continue
    return "", None


def _words(affix: str) -> set[str]:
    return set(re.split(r"[^a-z]+", affix.lower()))


def film_ids(cells: Cells, column: int) -> list[str]:
    """The films' names in a column.

    Raises:
        PredictionsError: naming the row of an empty name, or one that is there twice.
    """
    films: list[str] = []
    seen: dict[str, int] = {}
    for row, value in enumerate(cells.columns[column]):
        film = "" if value is None else str(value).strip()
        if not film:
            raise PredictionsError(f"film must not be empty, got nothing in {cells.place(row, column)}. Name the film.")
        if film in seen:
            raise PredictionsError(
                f"film must be there once, got {film!r} again in {cells.place(row, column)} (first in row "
                f"{cells.rows[seen[film]]}). Keep one of the two rows."
            )
        seen[film] = row
        films.append(film)
    return films


def _numbers(cells: Cells, column: int, films: list[str]) -> Float64[np.ndarray, " films"]:
    numbers = np.empty(len(films))
    for row, value in enumerate(cells.columns[column]):
        try:
            numbers[row] = np.nan if isinstance(value, str) and "_" in value else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            numbers[row] = np.nan
        if not np.isfinite(numbers[row]):
            missing = value is None or (isinstance(value, str) and not value.strip())
            raise PredictionsError(
                f"scores must be finite numbers, got {'nothing' if missing else reprlib.repr(value)} in "
                f"{cells.place(row, column)}, film {films[row]!r}. Give each film a score, or remove the column."
            )
    return numbers


def _check_finite(scores: pd.DataFrame, finding: str, where: str) -> None:
    column = scores[finding]
    if column.dtype.kind not in "fiub":
        raise PredictionsError(
            f"scores must be numbers, got {column.dtype} in {where}, column {finding!r}. Convert the column to float."
        )
    wrong = np.flatnonzero(~np.isfinite(column.to_numpy(dtype=np.float64)))
    if wrong.size:
        raise PredictionsError(
            f"scores must be finite numbers, got {column.iloc[wrong[0]]} in {where}, row {scores.index[wrong[0]]}, "
            f"column {finding!r}, film {scores['film'].iloc[wrong[0]]!r}. Give each film a score, or remove the column."
        )


def base_name(film: str) -> str:
    """A film's name without folders and image suffix."""
    return _IMAGE_SUFFIX.sub("", re.split(r"[/\\]", film)[-1])


def _listed(names: Sequence[str] | pd.Index) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
