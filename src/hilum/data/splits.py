"""What a split holds, and which patients it leaves on both sides."""

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from hilum.data.films import SPLITS, VIEWS, Films


def shared_patients(films: Films) -> dict[tuple[str, str], int]:
    """How many patients have films in both splits, for each pair of splits; all 0 where nothing leaks."""
    patients = {split: set(films.table["patient"][films.table["split"] == split]) for split in SPLITS}
    return {(one, other): len(patients[one] & patients[other]) for one, other in combinations(SPLITS, 2)}


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
