"""Which films train, which choose, which judge: three protocols, stored in the manifest; and what they leak."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal, get_args

import pandas as pd

from hilum.data.films import SPLITS, VIEWS, Films
from hilum.errors import FilmsError

Protocol = Literal["official", "patient", "image"]
Fractions = tuple[float, float, float]

PATIENT_FRACTIONS: Fractions = (0.7, 0.1, 0.2)
IMAGE_FRACTIONS: Fractions = (0.7, 0.0, 0.3)
"""The paper's: 70 % of the images train, 30 % judge, none is left to choose by."""
OFFICIAL_FRACTIONS: Fractions = (7 / 8, 1 / 8, 0.0)
"""Of the patients of NIH's train_val list; NIH's test list is the test split as it stands."""


def split_films(
    films: Films, protocol: str, *, seed: int = 0, fractions: tuple[float, float, float] | None = None
) -> Films:
    """The same films with `split` set anew, and the protocol, seed and fractions in their notes.

    The order in which a seed draws patients (or images) comes from SHA-256 of seed and name: it is the same whatever
    the order of the rows, the machine, or the version of NumPy.

    Args:
        protocol: `official`: NIH's two lists, with 1/8 of train_val's patients as val; films in neither list stay
            without a split and are named in `notes["problems"]["unsplit"]`. `patient`: fractions of the patients.
            `image`: fractions of the images, as the paper does it; films of one patient then stand on both sides.
        fractions: of train, val and test; 0 leaves a split empty. Not for `official`.

    Raises:
        FilmsError: if protocol, seed or fractions cannot be, NIH's lists are not known, or the films are too few.
    """
    if protocol not in get_args(Protocol):
        raise FilmsError(
            f"protocol must be one of {', '.join(get_args(Protocol))}, got {protocol!r}. Choose one of them."
        )
    if seed < 0:
        raise FilmsError(f"seed must be a whole number from 0, got {seed}. Choose another.")
    table = films.table
    unsplit: list[str] = []
    if protocol == "official":
        if fractions is not None:
            raise FilmsError("fractions must be left out with protocol official, got some. NIH's lists decide.")
        fractions, of_film = OFFICIAL_FRACTIONS, _official(films, seed)
        unsplit = [film for film in table["film"] if film not in of_film]
    elif protocol == "patient":
        fractions = _checked(fractions or PATIENT_FRACTIONS)
        of_patient = _cut(table["patient"], fractions, seed, "patients")
        of_film = {film: of_patient[patient] for film, patient in zip(table["film"], table["patient"], strict=True)}
    else:
        fractions = _checked(fractions or IMAGE_FRACTIONS)
        of_film = _cut(table["film"], fractions, seed, "images")
    column = pd.Series([of_film.get(film) for film in table["film"]], index=table.index, dtype=table["split"].dtype)
    problems = {**films.notes.get("problems", {}), "unsplit": unsplit}
    notes = {
        **films.notes,
        "problems": problems,
        "protocol": protocol,
        "split_seed": seed,
        "fractions": list(fractions),
    }
    return replace(films, table=table.assign(split=column), notes=notes)


def _official(films: Films, seed: int) -> dict[str, str]:
    """The split of every film in NIH's lists."""
    lists = [films.notes.get(name) for name in ("official_train_val", "official_test")]
    train_val, test = (set(listed or ()) & set(films.table["film"]) for listed in lists)
    if None in lists or not train_val or not test:
        counts = ", ".join(
            "no list" if listed is None else f"{len(found)} films"
            for listed, found in zip(lists, (train_val, test), strict=True)
        )
        raise FilmsError(
            f"official split must know films of train_val_list.txt and of test_list.txt, got {counts}. "
            "Put NIH's two lists into the source folder and index again, or split with --protocol patient."
        )
    patients = dict(zip(films.table["film"], films.table["patient"], strict=True))
    of_patient = _cut((patients[film] for film in train_val), OFFICIAL_FRACTIONS, seed, "train_val patients")
    return {**{film: of_patient[patients[film]] for film in train_val}, **dict.fromkeys(test, "test")}


def _checked(fractions: Fractions) -> Fractions:
    in_range = all(0 <= fraction <= 1 for fraction in fractions)
    if not in_range or not math.isclose(sum(fractions), 1, abs_tol=1e-6) or fractions[0] == 0:
        raise FilmsError(
            f"fractions must be three numbers from 0 that sum to 1, the first above 0, got {fractions}. "
            "Give for example 0.7 0.1 0.2."
        )
    return fractions


def _cut(names: Iterable[str], fractions: Fractions, seed: int, of_what: str) -> dict[str, str]:
    """Deal distinct names out to the splits, in the order that the seed draws them."""
    drawn = sorted(set(names), key=lambda name: (hashlib.sha256(f"{seed}:{name}".encode()).digest(), name))
    ends = [round(sum(fractions[: place + 1]) * len(drawn)) for place in range(len(SPLITS))]
    starts = [0, *ends[:-1]]
    for split, fraction, start, end in zip(SPLITS, fractions, starts, ends, strict=True):
        if fraction > 0 and start == end:
            raise FilmsError(
                f"split {split} must get one of the {of_what} at least, got none of {len(drawn)} as its fraction is "
                f"{fraction:g}. Index more films, or give other fractions (0 leaves a split empty)."
            )
    return {name: split for split, start, end in zip(SPLITS, starts, ends, strict=True) for name in drawn[start:end]}


def shared_patients(films: Films) -> dict[tuple[str, str], int]:
    """How many patients have films in both splits, for each pair of splits; all 0 where nothing leaks."""
    patients = {split: set(films.table["patient"][films.table["split"] == split]) for split in SPLITS}
    return {(one, other): len(patients[one] & patients[other]) for one, other in combinations(SPLITS, 2)}


def split_summary(films: Films) -> pd.DataFrame:
    """One row for each split that has films ("none" for films without one).

    Columns: split, films, patients, then the share of each view (`view PA`, ...), then for each finding its positive
    films (`Mass positives`) and their share of the films whose label is known (`Mass prevalence`, NaN if none is).
    """
    of_film = films.table["split"].astype(object).where(films.table["split"].notna(), "none")
    rows = []
    for split in (*SPLITS, "none"):
        part = films.table[of_film == split]
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
