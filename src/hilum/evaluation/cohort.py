"""The section on the films: patients, views and prevalence by split; what is missing, doubled or leaking."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hilum.data.audit import same_files
from hilum.data.films import SPLITS, VIEWS, Films
from hilum.data.splits import shared_patients
from hilum.evaluation.case import Case
from hilum.evaluation.views import Cell, TableView, View, count, plural, words

key = "manifest"

_PROBLEMS = ("missing", "same_name", "unlisted", "age", "unsplit")
_NAMED = 20


def measure(case: Case) -> dict[str, Any]:
    """The whole manifest, split by split; copies are looked for where a model has read the files."""
    return manifest_section(case.films, look=case.model is not None)


def manifest_section(films: Films, *, look: bool) -> dict[str, Any]:
    """The whole manifest, split by split, in the form of report.json; null for what is not known.

    Args:
        look: whether the files are there to be looked at for copies.
    """
    table, problems = films.certain, films.notes.get("problems", {})
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


_SPLITS = {"train": "Training", "val": "Validation", "test": "Test", "none": "In no split"}
_VIEWS = {"unknown": "View unknown", "LATERAL": "Lateral"}
_PROBLEM_WORDS = {
    "missing": "films that the label file lists have no image, and are not in the manifest",
    "same_name": "images have the name of another, and were not taken",
    "unlisted": "images have no row in the label file",
    "age": "films state an age beyond belief, which counts as unknown",
    "unsplit": "films are in neither of NIH's two lists",
}


def view(report: dict[str, Any]) -> View | None:
    """Films, patients, views and prevalence by split, and what is missing, doubled or leaking."""
    section = report["manifest"]
    if not section:
        return None
    splits = section["splits"]
    sentences = [f"{plural(section['films'], 'film')} of {plural(section['patients'], 'patient')}."]
    for pair, shared in section["shared_patients"].items():
        one, other = (_SPLITS[name].lower() for name in pair.split("/"))
        if shared:
            sentences.append(
                f"Patient leakage: {plural(shared, 'patient')} with films in {one} and {other}. Values are inflated."
            )
    if not any(section["shared_patients"].values()):
        sentences.append("No patient has films in two splits.")
    sentences.append(_copies_sentence(section["copies"]))
    for name, number in section["problems"].items():
        if number:
            sentences.append(f"{count(number)} {_PROBLEM_WORDS[name]}.")
    if all(number is None for number in section["problems"].values()):
        sentences.append("What its reader left out is not known: the manifest holds no notes.")
    sentences.append("To read every film, and find those that are broken or doubled: hilum audit films.parquet.")
    names = tuple(_SPLITS[one["split"]] for one in splits)
    views = [view for view in splits[0]["views"] if any(one["views"][view] for one in splits)]
    films = [
        (Cell("All"), *(Cell(count(one["films"]), plural(one["patients"], "patient")) for one in splits)),
        *(
            (Cell(_VIEWS.get(view, view)), *(_proportion(one["views"][view], one["films"]) for one in splits))
            for view in views
        ),
    ]
    findings = [
        (Cell(words(name)), *(_proportion(one["positives"][name], one["known"][name]) for one in splits))
        for name in splits[0]["positives"]
    ]
    return View(
        "films",
        "The films",
        tuple(sentences),
        tables=(
            TableView("Films and views by split", ("Films", *names), tuple(films)),
            TableView("Films with each finding, of those with a known label", ("Finding", *names), tuple(findings)),
        ),
    )


def _proportion(number: int, of: int) -> Cell:
    return Cell(f"{100 * number / of:.1f} %", f"{number:,} of {of:,}") if of else Cell("none known")


def _copies_sentence(copies: dict[str, Any] | None) -> str:
    if copies is None:
        return "Whether files are copies of each other was not looked at, because no model read them."
    if not copies["groups"]:
        return "No file is a copy of another by its length and its first 64 KiB."
    first = " = ".join(copies["first"][0])
    across = f", {count(copies['across_splits'])} of them across splits" if copies["across_splits"] else ""
    return f"{plural(copies['groups'], 'group')} of files are copies of each other{across}; the first is {first}."
