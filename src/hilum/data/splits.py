"""What a split holds, which patients it leaves on both sides, and which findings a source alone would tell."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float32

from hilum.data.films import SPLITS, VIEWS, Films
from hilum.errors import FilmsError


def folds(films: Films, number: int, *, seed: int = 0) -> list[Films]:
    """Films for a cross-validation by patient: in each, another fold is the split test and the next one val.

    Films of the split test stay out of all folds, without a split; so do films without one if others have some. The
    order in which the seed deals patients comes from SHA-256, as in `Films.split`.

    Raises:
        FilmsError: if there are not three folds at least, or fewer patients than folds.
    """
    table = films.table
    unsplit = bool(table["split"].isna().all())
    used = table["split"].isin(["train", "val"]) | unsplit
    patients = sorted(
        set(table["patient"][used]), key=lambda name: (hashlib.sha256(f"{seed}:{name}".encode()).digest(), name)
    )
    if not 3 <= number <= len(patients):
        raise FilmsError(
            f"folds must be from 3 to the number of patients that are not in the test split ({len(patients)}), got "
            f"{number}. Give for example 5."
        )
    fold_of = {patient: place % number for place, patient in enumerate(patients)}
    folded = table["patient"].map(fold_of).where(used)
    notes = {**films.notes, "protocol": "patient", "split_seed": seed, "folds": number}
    made = []
    for fold in range(number):
        splits = [
            None if math.isnan(one) else {fold: "test", (fold + 1) % number: "val"}.get(int(one), "train")
            for one in folded.astype(float)
        ]
        column = pd.Series(splits, index=table.index, dtype=table["split"].dtype)
        made.append(replace(films, table=table.assign(split=column), notes={**notes, "fold": fold + 1}))
    return made


def out_of_fold(films: Films, number: int, *, seed: int = 0) -> Films:
    """The manifest for evaluating a cross-validation: the films of all folds are its split test."""
    folded = pd.Series([None] * len(films), index=films.table.index, dtype=films.table["split"].dtype)
    for one in (made := folds(films, number, seed=seed)):
        folded = folded.where(one.table["split"] != "test", "test")
    notes = {name: value for name, value in made[0].notes.items() if name != "fold"}
    splits = films.table["split"].tolist()
    before = [None if split is None or split != split else str(split) for split in splits]
    return replace(films, table=films.table.assign(split=folded), notes={**notes, "split_before": before})


def folds_again(films: Films) -> list[Films]:
    """The folds of a manifest that `out_of_fold` made; none of another one."""
    if "folds" not in films.notes or "split_before" not in films.notes:
        return []
    before = pd.Series(films.notes["split_before"], index=films.table.index, dtype=films.table["split"].dtype)
    notes = {name: value for name, value in films.notes.items() if name != "split_before"}
    whole = replace(films, table=films.table.assign(split=before), notes=notes)
    return folds(whole, int(films.notes["folds"]), seed=int(films.notes["split_seed"]))


def shared_patients(films: Films) -> dict[tuple[str, str], int]:
    """How many patients have films in both splits, for each pair of splits; all 0 where nothing leaks."""
    patients = {split: set(films.table["patient"][films.table["split"] == split]) for split in SPLITS}
    return {(one, other): len(patients[one] & patients[other]) for one, other in combinations(SPLITS, 2)}


def constant_labels(films: Films, labels: Float32[np.ndarray, "films findings"]) -> dict[str, dict[str, bool]]:
    """Findings of which all known labels of a source are the same, while those of all sources are not.

    Args:
        labels: those of the films, or what training takes them for.

    Returns:
        For each such finding the sources, and whether the finding is present there.
    """
    sources = films.table["source"].to_numpy(dtype=str)
    found: dict[str, dict[str, bool]] = {}
    for name, column in zip(films.findings, labels.T, strict=True):
        known = ~np.isnan(column)
        if len(np.unique(column[known])) < 2:
            continue
        for source in np.unique(sources[known]):
            values = np.unique(column[known & (sources == source)])
            if len(values) == 1:
                found.setdefault(name, {})[str(source)] = bool(values[0] == 1)
    return found


def split_summary(films: Films) -> pd.DataFrame:
    """One row for each split that has films ("none" for films without one).

    Columns: split, films, patients, then the proportion of each view (`view PA`, ...), then for each finding its
    positive films (`Mass positives`) and their proportion of the films with a known label (`Mass prevalence`).
    """
    table = films.certain
    of_film = table["split"].astype(object).where(table["split"].notna(), "none")
    rows = []
    for split in (*SPLITS, "none"):
        part = table[of_film == split]
        if not part.empty:
            rows.append(_summary(split, part, films.findings))
    return pd.DataFrame(rows)


def _summary(split: str, part: pd.DataFrame, findings: Sequence[str]) -> dict[str, str | int | float]:
    row: dict[str, str | int | float] = {"split": split, "films": len(part), "patients": part["patient"].nunique()}
    row |= {f"view {view}": float((part["view"] == view).mean()) for view in VIEWS}
    for finding in findings:
        row[f"{finding} positives"] = int((part[finding] == 1).sum())
        row[f"{finding} prevalence"] = float(part[finding].mean())  # NaN labels are left out
    return row
