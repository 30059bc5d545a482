"""The films of a split that a system has scored, with their truth: what is judged, and what two reports compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float64, Shaped

from hilum.data.films import Films
from hilum.data.predictions import match, read_predictions
from hilum.errors import PredictionsError
from hilum.files import unfinished

SCORES, TRUTH = "predictions.csv", "judged.parquet"
"""The two files that a report's folder holds beside its numbers."""


@dataclass(frozen=True)
class Judged:
    """The judged films in the manifest's order; both tables have the same rows, and findings of the same order.

    Attributes:
        truth: the manifest's columns of these films, or, read from a report's folder, film, patient and labels.
        scores: film, then a column of finite numbers per judged finding.
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


def judged_films(
    films: Films, scores: pd.DataFrame, *, split: str, allow_missing: bool = False, allow_unknown: bool = False
) -> Judged:
    """The films of a split with their scores. Arguments and errors as for `hilum.evaluate.judge`.

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
        remedy = "Judge the others with --allow-missing." if present.any() else "Check the column 'film'."
        raise PredictionsError(
            f"scores must cover every film of the split {split}, got none for {len(missing):,} of {len(chosen):,}, the "
            f"first of which is {missing[0]!r}, in {where}. Add them. {remedy}"
        )
    truth = chosen.table[present].reset_index(drop=True)
    kept = matched.set_index("film").loc[truth["film"], list(findings)].reset_index()
    kept.attrs = dict(matched.attrs)
    return Judged(truth, kept, findings, missing)


def read_judged(folder: Path, findings: Sequence[str]) -> Judged:
    """What `Judged.write` wrote into a report's folder, in the order of the films' names.

    Args:
        findings: those that the report judged.

    Raises:
        PredictionsError: if a file is missing, cannot be read, or the two do not hold the same films and findings.
    """
    remedy = "Make the report again with: hilum evaluate RUN|PREDICTIONS --films films.parquet --out REPORT"
    for name in (SCORES, TRUTH):
        if not (folder / name).is_file():
            raise PredictionsError(f"report must hold {name}, got none in {folder}. {remedy}")
    scores = read_predictions(folder / SCORES)
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
            f"{SCORES} and {TRUTH} must hold what report.json judged, got {got} in {folder}. {remedy}"
        )
    order = np.argsort(truth["film"].to_numpy(dtype=str), kind="stable")
    truth, scores = (table.iloc[order].reset_index(drop=True) for table in (truth[wanted], scores))
    return Judged(truth, scores, tuple(findings))
