"""What is evaluated: anyone's scores matched with a manifest's films, second opinions, and reports of before."""

import json
import math
import re
import reprlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float64, Shaped

from hilum.data.films import Films
from hilum.data.quality import OK
from hilum.data.tables import EXAMPLE, Cells, read_cells
from hilum.errors import HilumError, PredictionsError
from hilum.files import unfinished
from hilum.findings import COMPOSITES, folded, known_as, resolve

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


def read_predictions(path: Path, findings: Sequence[str]) -> pd.DataFrame:
    """A column `film`, then a float column per finding; the index is the file's row, in CSV the header being row 1.

    Columns may come in any order and share a prefix or suffix (prob_Effusion, Effusion_score). A row without any score
    is left out where its column `error` or `fit` says why, as in the tables of `hilum predict`. `attrs` says what was
    done: "file", "affix" (such as "prob_*"), "ignored_columns" and "unscored", the reason by film.

    Args:
        findings: those that are evaluated, by the manifest or the report; a column may have a synonym's name.

    Raises:
        PredictionsError: naming file, row and column of what cannot be evaluated.
    """
    cells = read_cells(path)
    if set(cells.names) >= _MANIFEST:
        raise PredictionsError(
            f"predictions must hold scores, got a manifest of films with their labels in {path}, which would be "
            "evaluated against themselves. Name a bundle or a table of scores, and the manifest as --films."
        )
    films_at = film_column(cells)
    affix, chosen = _score_columns(cells, findings)
    cells, unscored = _scored_rows(cells, films_at, list(chosen.values()))
    films = film_ids(cells, films_at)
    scores = {finding: _numbers(cells, column, films) for finding, column in chosen.items()}
    table = pd.DataFrame({"film": films, **scores}, index=pd.Index(cells.rows, name="row"))
    used = {films_at, *chosen.values()}
    ignored = [name or "(no name)" for i, name in enumerate(cells.names) if i not in used]
    table.attrs = {"file": str(path), "affix": affix, "ignored_columns": ignored, "unscored": unscored}
    return table


def _scored_rows(cells: Cells, films_at: int, scores_at: Sequence[int]) -> tuple[Cells, dict[str, str]]:
    """The rows that have scores, and why the others have none; a row that does not say why stays, and is refused."""
    reasons = [cells.columns[cells.names.index(name)] for name in ("error", "fit") if name in cells.names]
    unscored: dict[int, str] = {}
    for row in range(len(cells.rows)) if reasons else ():
        if all(_blank(cells.columns[column][row]) for column in scores_at):
            why = next((str(reason[row]) for reason in reasons if not _blank(reason[row]) and reason[row] != OK), "")
            if why:
                unscored[row] = why
    if not unscored:
        return cells, {}
    kept = [row for row in range(len(cells.rows)) if row not in unscored]
    columns: list[Sequence[object]] = [[column[row] for row in kept] for column in cells.columns]
    named = {str(cells.columns[films_at][row]): why for row, why in unscored.items()}
    return replace(cells, columns=columns, rows=[cells.rows[row] for row in kept]), named


def _blank(value: object) -> bool:
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


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


def _score_columns(cells: Cells, findings: Sequence[str]) -> tuple[str, dict[str, int]]:
    """The columns of scores by finding, and what their names have in common around the finding's, such as "prob_*"."""
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for column, name in enumerate(cells.names):
        affix, finding = _affix_and_finding(name, findings)
        if finding is None or _words(affix) & _TRUTH_WORDS:
            continue
        if finding in groups[affix]:
            twice = f"{cells.names[groups[affix][finding]]!r} and {name!r}"
            raise PredictionsError(f"{finding} must have one column, got {twice} in {cells.path}. Remove one of them.")
        groups[affix][finding] = column
    if not groups:
        raise PredictionsError(
            f"columns must include scores of at least one finding ({', '.join(findings)}), got "
            f"{_listed(cells.names)} in {cells.path}. Name each column after its finding, for example "
            f"prob_{findings[0]}."
        )
    choices = [affix for affix in groups if _words(affix) & _SCORE_WORDS] or list(groups)
    if "*" in choices and all(len(groups[affix]) == 1 < len(groups["*"]) for affix in choices if affix != "*"):
        choices = ["*"]  # a stray "Breast_Mass" beside plain names is no second set
    if len(choices) > 1:
        two = " and ".join(repr(cells.names[next(iter(groups[affix].values()))]) for affix in choices[:2])
        raise PredictionsError(
            f"columns must hold one set of scores, got {two} in {cells.path}. Keep one set, named like "
            f"prob_{findings[0]}."
        )
    return choices[0], dict(groups[choices[0]])


def _affix_and_finding(name: str, findings: Sequence[str]) -> tuple[str, str | None]:
    cuts = [cut.start() for cut in re.finditer(r"[\W_]", name)]
    parts = [("*", name)]
    parts += [(name[: cut + 1] + "*", name[cut + 1 :]) for cut in cuts]
    parts += [("*" + name[cut:], name[:cut]) for cut in reversed(cuts)]
    for affix, rest in parts:
        finding = resolve(rest, findings)
        if finding is not None:
            return affix, finding
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


SCORES, TRUTH = "predictions.csv", "judged.parquet"
"""The two files that a report's folder holds beside its numbers."""


@dataclass(frozen=True)
class EvaluationSet:
    """The evaluated films in the manifest's order; both tables have the same rows, and findings of the same order.

    Attributes:
        truth: the manifest's columns of these films, or, read from a report's folder, film, patient and labels.
        scores: film, then a column of finite numbers per evaluated finding.
        findings: those that have scores.
        missing: films of the split without scores, which were left out.
    """

    truth: pd.DataFrame
    scores: pd.DataFrame
    findings: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def numbers(self) -> Float64[np.ndarray, "films findings"]:
        """The scores alone."""
        return self.scores[list(self.findings)].to_numpy(dtype=np.float64)

    @property
    def labels(self) -> Float64[np.ndarray, "films findings"]:
        """1 present, 0 absent, NaN unknown."""
        return self.truth[list(self.findings)].to_numpy(dtype=np.float64)

    @property
    def patients(self) -> Shaped[np.ndarray, " films"]:
        """Whose film each row is."""
        return self.truth["patient"].to_numpy(dtype=str)

    def write(self, folder: Path) -> None:
        """Write predictions.csv, with every digit that ranks a score, and judged.parquet.

        Raises:
            HilumError: if the folder cannot be written to.
        """
        with unfinished(folder / SCORES) as beside:
            self.scores.to_csv(beside, index=False)
        with unfinished(folder / TRUTH) as beside:
            self.truth[["film", "patient", *self.findings]].to_parquet(beside, index=False)


def evaluation_set(
    films: Films, scores: pd.DataFrame, *, split: str, allow_missing: bool = False, allow_unknown: bool = False
) -> EvaluationSet:
    """The films of a split with their scores. Arguments and errors as for `hilum.evaluation.evaluate.evaluate`.

    The attributes of `scores` are kept, with those that `match` adds.
    """
    chosen = films.select(split)
    matched = match(films, scores, allow_unknown=allow_unknown)
    where = str(scores.attrs.get("file", "the table of scores"))
    findings = tuple(finding for finding in films.findings if finding in matched.columns)
    if not findings:
        raise PredictionsError(
            f"scores must have a column for at least one finding of the manifest ({', '.join(films.findings)}), got "
            f"none in {where}. Name each column after its finding."
        )
    present = chosen.table["film"].isin(set(matched["film"])).to_numpy(dtype=bool)
    missing = tuple(chosen.table["film"][~present])
    if missing and not (allow_missing and present.any()):
        remedy = "Evaluate the others with --allow-missing." if present.any() else "Check the column 'film'."
        why = next(iter(scores.attrs.get("unscored", {}).values()), "")
        if why:
            remedy = f"{remedy} Some were not scored ({why}): hilum predict --force scores films that do not fit."
        raise PredictionsError(
            f"scores must cover every film of the split {split}, got none for {len(missing):,} of {len(chosen):,}, the "
            f"first of which is {missing[0]!r}, in {where}. Add them. {remedy}"
        )
    truth = chosen.certain[present].reset_index(drop=True)
    kept = matched.set_index("film").loc[truth["film"], list(findings)].reset_index()
    kept.attrs = dict(matched.attrs)
    return EvaluationSet(truth, kept, findings, missing)


def validation_set(films: Films, scores: pd.DataFrame, split: str) -> EvaluationSet:
    """The scored films of the split val; of a manifest without one, all scored films.

    Args:
        split: which is evaluated, none of whose films may be among them.

    Raises:
        PredictionsError: if there is no such film, or one that is evaluated.
    """
    matched, where = match(films, scores, allow_unknown=True), str(scores.attrs.get("file", "the validation scores"))
    splits = films.table["split"]
    scored = films.table["film"].isin(set(matched["film"])).to_numpy(dtype=bool)
    if split != "val" and (splits == "val").any():
        scored = scored & (splits == "val").to_numpy(dtype=bool)
    scored = scored & films.table["view"].isin(films.views).to_numpy(dtype=bool)
    wrong = int((scored & (splits == split).to_numpy(dtype=bool)).sum())
    if wrong or not scored.any():
        got = f"{wrong:,} of the split {split}, which is evaluated" if wrong else "none that the manifest has as such"
        raise PredictionsError(
            f"validation scores must be of other films than are evaluated, got {got}, in {where}. Score the films of "
            "the split val."
        )
    findings = tuple(finding for finding in films.findings if finding in matched.columns)
    truth = films.certain[scored].reset_index(drop=True)
    kept = matched.set_index("film").loc[truth["film"], list(findings)].reset_index()
    return EvaluationSet(truth, kept, findings)


def read_evaluation_set(folder: Path, findings: Sequence[str]) -> EvaluationSet:
    """What `EvaluationSet.write` wrote into a report's folder, in the order of the films' names.

    Args:
        findings: those that the report evaluated.

    Raises:
        PredictionsError: if a file is missing, cannot be read, or the two do not hold the same films and findings.
    """
    remedy = "Make the report again with: hilum evaluate RUN|PREDICTIONS --films films.parquet --out REPORT"
    for name in (SCORES, TRUTH):
        if not (folder / name).is_file():
            raise PredictionsError(f"report must hold {name}, got none in {folder}. {remedy}")
    scores = read_predictions(folder / SCORES, findings)
    try:
        truth = pd.read_parquet(folder / TRUTH)
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PredictionsError(f"{TRUTH} must be a Parquet table, got {folder / TRUTH}: {reason}. {remedy}") from error
    wanted = ["film", "patient", *findings]
    lacking = [name for name in wanted if name not in truth] + [name for name in findings if name not in scores]
    if lacking or truth["film"].tolist() != scores["film"].tolist():
        got = f"no column {lacking[0]!r}" if lacking else "other films, or another order"
        raise PredictionsError(
            f"{SCORES} and {TRUTH} must hold what report.json evaluated, got {got} in {folder}. {remedy}"
        )
    order = np.argsort(truth["film"].to_numpy(dtype=str), kind="stable")
    truth, scores = (table.iloc[order].reset_index(drop=True) for table in (truth[wanted], scores))
    return EvaluationSet(truth, scores, tuple(findings))


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
        others: columns of yes and no that are no finding of the manifest.
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
                f"reference must have a row for each film, got {self.films[row]!r}, which fits several films, in "
                f"{self.path}. Write the manifest's own names."
            )
        if (places < 0).all():
            raise PredictionsError(
                f"reference must hold some of the evaluated films, with names such as {films[0]!r}, got none among "
                f"{len(self.films):,} such as {self.films[0]!r} in {self.path}. Give labels of these films, or "
                "evaluate another split."
            )
        return {name: np.where(places < 0, np.nan, column[places]) for name, column in self.labels.items()}


def read_reference(path: Path, findings: Sequence[str]) -> Reference:
    """A table with a column of film names and columns of labels: a finding's name, or that of a composite.

    Labels are YES or NO, 1 or 0, true or false; empty is unknown. Such is the file of adjudicated labels that Google
    published for films of ChestX-ray14 (also gzipped, as torchxrayvision ships it); its other columns are not used.

    Args:
        findings: the manifest's.

    Raises:
        PredictionsError: naming file, row and column of what cannot be used.

    Source: Majkowska et al., "Chest radiograph interpretation with deep learning models", Radiology 294, 2020.
    """
    cells = read_cells(path)
    film = film_column(cells)
    chosen: dict[str, int] = {}
    for column, name in enumerate(cells.names):
        finding = _finding(name, findings)
        if finding is None or column == film:
            continue
        if finding in chosen:
            twice = f"{cells.names[chosen[finding]]!r} and {name!r}"
            raise PredictionsError(f"{finding} must have one column, got {twice} in {path}. Remove one of them.")
        chosen[finding] = column
    if not chosen:
        raise PredictionsError(
            f"reference must have a column for at least one finding, got {', '.join(cells.names[:8])} in {path}. "
            f"The manifest's findings are {', '.join(findings)}. {_EXAMPLE}"
        )
    films = film_ids(cells, film)
    others = [
        name
        for column, name in enumerate(cells.names)
        if column not in (film, *chosen.values()) and _are_labels(cells.columns[column])
    ]
    labels = {finding: _labels(cells, column) for finding, column in chosen.items()}
    return Reference(path, tuple(films), labels, tuple(others))


def _finding(name: str, findings: Sequence[str]) -> str | None:
    """The manifest's finding, else the composite of findings, else the known finding that it has no labels of."""
    composites = {folded(composite): composite for composite in COMPOSITES}
    return resolve(name, findings) or composites.get(folded(name)) or known_as(name)


def _are_labels(column: Sequence[object]) -> bool:
    """Whether a column says yes or no of films."""
    return {"", "nan"} < {*map(_word, column), "", "nan"} <= {*_WORDS, "0", "1", "0.0", "1.0"}


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


_REMEDY = "Name the folder that was --out of: hilum evaluate"


class StoredReport(NamedTuple):
    """A report's folder, what its report.json holds, and the films that it evaluated."""

    folder: Path
    content: dict[str, Any]
    evaluated: EvaluationSet


def read_report(folder: Path) -> StoredReport:
    """Read a folder that `hilum evaluate` wrote.

    Raises:
        HilumError: if it holds no report, or one whose files do not belong together.
    """
    content = read_content(folder)
    evaluated = read_evaluation_set(folder, list(content["findings"]))
    if len(evaluated.truth) != content["films"]:
        raise PredictionsError(
            f"judged.parquet must hold the {content['films']} films of report.json, got {len(evaluated.truth)} in "
            f"{folder}. {_REMEDY}"
        )
    return StoredReport(folder, content, evaluated)


def read_content(folder: Path) -> dict[str, Any]:
    """What a folder's report.json holds.

    Raises:
        HilumError: if there is none, or it is no report.
    """
    path = folder / "report.json"
    if not path.is_file():
        raise HilumError(f"report must be a folder with report.json, got {folder}, which is none. {_REMEDY}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HilumError(f"report.json must be a file that can be read, got {path}: {error.strerror}.") from None
    except ValueError:  # of JSON or of UTF-8
        raise HilumError(f"report.json must be JSON, got something else in {path}. {_REMEDY}") from None
    keys = ("system", "protocol", "split", "films", "films_fingerprint", "findings")
    lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
    if lacking or not isinstance(content["findings"], dict):
        raise HilumError(f"report.json must have {(lacking or ['findings'])[0]!r}, got none in {path}. {_REMEDY}")
    return dict(content)
