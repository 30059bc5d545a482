"""The section of a report on its manifest: films of whom and with what; what is missing, doubled or leaking."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hilum.data.audit import same_files
from hilum.data.films import SPLITS, VIEWS, Films
from hilum.data.splits import shared_patients

_PROBLEMS = ("missing", "same_name", "unlisted", "age", "unsplit")
_NAMED = 20


def manifest_section(films: Films, *, look: bool) -> dict[str, Any]:
    """The whole manifest, split by split, in the form of report.json; null for what is not known.

    Args:
        look: whether the files are there to be looked at for copies.
    """
    table, problems = films.table, films.notes.get("problems", {})
    copies = same_files(films) if look else None
    return {
        "films": len(films),
        "patients": int(table["patient"].nunique()),
        "splits": [
            _split(name, table[table["split"].fillna("none") == name], films.findings)
            for name in (*SPLITS, "none")
            if (table["split"].fillna("none") == name).any()
        ],
        "problems": {name: len(problems[name]) if name in problems else None for name in _PROBLEMS},
        "shared_patients": {f"{one}/{other}": count for (one, other), count in shared_patients(films).items()},
        "copies": None if copies is None else _copies(films, copies),
    }


def _split(name: str, part: pd.DataFrame, findings: Sequence[str]) -> dict[str, Any]:
    return {
        "split": name,
        "films": len(part),
        "patients": int(part["patient"].nunique()),
        "views": {view: int((part["view"] == view).sum()) for view in VIEWS},
        "known": {finding: int(part[finding].notna().sum()) for finding in findings},
        "positives": {finding: int((part[finding] == 1).sum()) for finding in findings},
    }


def _copies(films: Films, copies: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    splits = dict(zip(films.table["film"], films.table["split"], strict=True))
    return {
        "groups": len(copies),
        "across_splits": sum(len({splits[film] for film in group}) > 1 for group in copies),
        "first": [list(group) for group in copies[:_NAMED]],
    }
