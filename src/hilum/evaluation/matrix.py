"""Train sets against test sets: every model on every set of films, and what it loses away from home."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hilum import DISCLAIMER, __version__
from hilum.data.films import FRONTAL, Films, read_films
from hilum.data.merge import groups_of
from hilum.data.sources import SOURCES
from hilum.errors import HilumError, extras_named
from hilum.evaluation.case import trained_on
from hilum.evaluation.inputs import EvaluationSet, evaluation_set
from hilum.evaluation.page import page_environment
from hilum.evaluation.views import shown_p, signed_interval, signed_number, words
from hilum.files import write_whole
from hilum.findings import known_as
from hilum.metrics.bootstrap import Estimate, estimate_json, number_json
from hilum.metrics.compare import holm, independent_difference
from hilum.metrics.influence import Measured, average, measured_per_finding

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle

State = Literal["own", "other", "leak"]
"""Of a cell: the model learned from this manifest's training films; from other patients; or perhaps from these."""

_NOTES = (
    "A row is a model, a column the test films of a manifest. Means are over the findings that every model gives and "
    "every set of films can evaluate, so that they compare along rows and columns.",
    "A difference is a cell minus the same model's value on its own test films. The films are of other patients, so "
    "nothing is paired: its interval comes from the two values' own intervals. Holm's correction is over all of these.",
    "Sets of films differ in their patients, in their machines and in how labels were made; the table does not tell "
    "which of these makes a difference.",
    "Struck out: the model may have been trained on patients of these test films, under the same or other names.",
)


@dataclass(frozen=True)
class _Cell:
    state: State
    evaluated: EvaluationSet | None = None
    auroc: dict[str, Measured] | None = None  # by the vocabulary's name of the finding


def matrix(
    runs: Sequence[Path], manifests: Sequence[Path], *, split: str = "test", views: Sequence[str] = FRONTAL
) -> dict[str, Any]:
    """Evaluate every bundle on a split of every manifest.

    Plain JSON in which NaN is null; an ESTIMATE is {value, low, high, undefined, why}, as in report.json:

        hilum, split, views, disclaimer, notes: [sentence]
        rows: [{name, run, sources, groups, findings}]    the models
        columns: [{name, films_file, films_fingerprint, films, patients, sources, groups}]    the films
        common_findings: [FINDING]    that every cell but the struck ones can evaluate
        cells: [[{state, films, patients, mean: MEASURED, findings: {FINDING: MEASURED}}]]    rows of columns
        MEASURED: {auroc: ESTIMATE, positives, difference: ESTIMATE or null, p_value, p_value_holm (of means alone)}

    Args:
        runs: folders of bundles.
        manifests: each split; films of a source, or of several.
        split: which films are evaluated.
        views: of them.

    Raises:
        HilumError: if there is no run or no manifest, or one comes twice.
        FilmsError, BundleError: if one cannot be read.
    """
    for what, paths in (("runs", runs), ("films", manifests)):
        if not paths or len({path.resolve() for path in paths}) < len(paths):
            raise HilumError(f"{what} must be at least one and each named once, got {', '.join(map(str, paths))}.")
    with extras_named():
        from hilum.model.bundle import load_bundle
    films = [read_films(path).of_views(views) for path in manifests]
    bundles = [load_bundle(run) for run in runs]
    cells = [[_cell(bundle, one, split) for one in films] for bundle in bundles]
    common = _common(cells)
    homes = [[place for place, cell in enumerate(row) if cell.state == "own"] for row in cells]
    content: dict[str, Any] = {
        "hilum": __version__,
        "split": split,
        "views": list(views),
        "rows": [
            {
                "name": name,
                "run": str(run),
                "sources": list(bundle.sources),
                "groups": sorted(_groups(bundle)),
                "findings": [_name(finding) for finding in bundle.findings],
            }
            for name, run, bundle in zip(_names(runs, "name"), runs, bundles, strict=True)
        ],
        "columns": [_column(*one, split) for one in zip(_names(manifests, "stem"), manifests, films, strict=True)],
        "common_findings": common,
        "cells": [
            [_cell_json(cell, row[home[0]] if len(home) == 1 else None, common) for cell in row]
            for row, home in zip(cells, homes, strict=True)
        ],
        "notes": [*_NOTES, *_more_notes(bundles, runs, films, common)],
        "disclaimer": DISCLAIMER,
    }
    _correct(content["cells"])
    return content


def _cell(bundle: "Bundle", films: Films, split: str) -> _Cell:
    from hilum.model.bundle import renamed
    from hilum.model.engines import TorchEngine
    from hilum.predict.scoring import score_films

    merged = (bundle.training.get("merged") or {}).values()
    own = trained_on(bundle, films) or films.fingerprint() in merged
    if not own and _groups(bundle) & groups_of(films):
        return _Cell("leak")
    state: State = "own" if own else "other"
    here = renamed(bundle, films.findings)
    if not set(here.findings) & set(films.findings):
        return _Cell(state)
    evaluated = evaluation_set(films, score_films(TorchEngine(here), films.select(split)), split=split)
    auroc, _ = measured_per_finding(evaluated.numbers, evaluated.labels, evaluated.patients)
    defined = {
        _name(finding): one for finding, one in zip(evaluated.findings, auroc, strict=True) if not math.isnan(one.value)
    }
    return _Cell(state, evaluated, defined)


def _groups(bundle: "Bundle") -> set[str]:
    """The leak groups of a bundle's training films; of a bundle from before they were kept, by its sources' names."""
    kept = bundle.training.get("groups")
    if kept:
        return set(kept)
    return {SOURCES[name].group if name in SOURCES and SOURCES[name].group else name for name in bundle.sources}


def _name(finding: str) -> str:
    return known_as(finding) or finding


def _names(paths: Sequence[Path], part: Literal["name", "stem"]) -> list[str]:
    names = [str(getattr(path.resolve(), part)) for path in paths]
    return [str(path) if names.count(name) > 1 else name for name, path in zip(names, paths, strict=True)]


def _column(name: str, path: Path, films: Films, split: str) -> dict[str, Any]:
    table = films.select(split).table
    return {
        "name": name,
        "films_file": str(path),
        "films_fingerprint": films.fingerprint(),
        "films": len(table),
        "patients": int(table["patient"].nunique()),
        "sources": sorted(map(str, table["source"].unique())),
        "groups": sorted(groups_of(films)),
    }


def _common(cells: Sequence[Sequence[_Cell]]) -> list[str]:
    sets = [list(cell.auroc or ()) for row in cells for cell in row if cell.state != "leak"]
    return [name for name in (sets[0] if sets else ()) if all(name in names for names in sets)]


def _mean(cell: _Cell, common: Sequence[str]) -> Estimate:
    if not common or cell.auroc is None:
        return Estimate(math.nan, math.nan, math.nan, 0, "no finding that every cell can evaluate")
    return average([cell.auroc[name] for name in common]).estimate


def _cell_json(cell: _Cell, home: _Cell | None, common: Sequence[str]) -> dict[str, Any]:
    if cell.evaluated is None or cell.auroc is None:
        return {"state": cell.state, "films": 0, "patients": 0, "mean": None, "findings": {}}
    away = home if cell.state == "other" else None
    positives = _positives(cell.evaluated)
    mean_home = _mean(away, common) if away else None
    return {
        "state": cell.state,
        "films": len(cell.evaluated.truth),
        "patients": len(set(cell.evaluated.patients.tolist())),
        "mean": _measured(_mean(cell, common), mean_home, sum(positives[name] for name in common)),
        "findings": {
            name: _measured(
                one.estimate,
                away.auroc[name].estimate if away and away.auroc and name in away.auroc else None,
                positives[name],
            )
            for name, one in cell.auroc.items()
        },
    }


def _measured(value: Estimate, home: Estimate | None, positives: int) -> dict[str, Any]:
    difference, p_value = (None, math.nan) if home is None else independent_difference(home, value)
    return {
        "auroc": estimate_json(value),
        "positives": positives,
        "difference": None if difference is None else estimate_json(difference),
        "p_value": number_json(p_value),
        "p_value_holm": None,
    }


def _positives(evaluated: EvaluationSet) -> dict[str, int]:
    counts = (evaluated.labels == 1).sum(axis=0)
    return {_name(finding): int(count) for finding, count in zip(evaluated.findings, counts, strict=True)}


def _correct(cells: list[list[dict[str, Any]]]) -> None:
    """Holm's correction of the mean differences of all cells together."""
    means = [cell["mean"] for row in cells for cell in row if cell["mean"] and cell["mean"]["difference"]]
    p_values = np.array([math.nan if one["p_value"] is None else one["p_value"] for one in means], dtype=np.float64)
    for one, corrected in zip(means, holm(p_values), strict=True):
        one["p_value_holm"] = number_json(float(corrected))


def _more_notes(
    bundles: Sequence["Bundle"], runs: Sequence[Path], films: Sequence[Films], common: Sequence[str]
) -> list[str]:
    notes = []
    if not common:
        notes.append("There is no finding that every cell can evaluate, so there are no means.")
    blind = [str(run) for bundle, run in zip(bundles, runs, strict=True) if not _groups(bundle)]
    if blind:
        notes.append(f"Which films these were trained on is not known, so leaks cannot be seen: {', '.join(blind)}.")
    if any(one.notes.get("patients_are_films") for one in films):
        notes.append("Some of these films' sources publish no patients: their intervals are too narrow.")
    return notes


LEVEL = 0.05
"""The corrected p-value below which a sentence names a cell."""


def sentences(content: dict[str, Any]) -> list[str]:
    """What each model loses or gains away from home, in plain words; a sentence for each."""
    said = []
    columns = [column["name"] for column in content["columns"]]
    for row, cells in zip(content["rows"], content["cells"], strict=True):
        changes: dict[str, list[str]] = {"loses": [], "gains": []}
        for column, cell in zip(columns, cells, strict=True):
            mean = cell["mean"]
            if not mean or not mean["difference"] or mean["difference"]["value"] is None:
                continue
            value, corrected = mean["difference"]["value"], mean["p_value_holm"]
            if corrected is not None and corrected < LEVEL:
                gap = f"{signed_number(value)} ({signed_interval(mean['difference'])}, p {shown_p(corrected)})"
                changes["loses" if value < 0 else "gains"].append(f"on {column} {gap}")
        told = [f"{verb} {', '.join(places)}" for verb, places in changes.items() if places]
        if told:
            said.append(f"{row['name']} {'; it '.join(told)}.")
    if said:
        said.insert(0, f"Mean AUROC against each model's own test films, where it differs at the level {LEVEL} (Holm):")
    if not said:
        said.append(f"No mean AUROC away from home differs from that at home at the level {LEVEL}, corrected by Holm.")
    return said


def write_matrix(content: dict[str, Any], folder: Path) -> None:
    """Write matrix.json and matrix.html, a self-contained page.

    Raises:
        HilumError: if the folder cannot be written to.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page = render_matrix(content)
    write_whole(folder / "matrix.json", text.encode())
    write_whole(folder / "matrix.html", page.encode())


def render_matrix(content: dict[str, Any]) -> str:
    """The page as HTML: a table of means, then one for each finding that two cells have."""
    findings = dict.fromkeys(name for row in content["cells"] for cell in row for name in cell["findings"])
    tables = [("Mean AUROC", [[cell["mean"] for cell in row] for row in content["cells"]])]
    for name in findings:
        cells = [[cell["findings"].get(name) for cell in row] for row in content["cells"]]
        if sum(cell is not None for row in cells for cell in row) > 1:
            tables.append((words(name), cells))
    states = [[cell["state"] for cell in row] for row in content["cells"]]
    return (
        page_environment()
        .get_template("matrix.html")
        .render(content=content, kind="matrix", tables=tables, states=states, sentences=sentences(content))
    )


def matrix_table(content: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows of the means, as a command line prints them."""
    header = ["trained on", *(column["name"] for column in content["columns"])]
    rows = [[row["name"], *map(_shown, cells)] for row, cells in zip(content["rows"], content["cells"], strict=True)]
    return f"Mean AUROC over {len(content['common_findings'])} findings", header, rows


def _shown(cell: dict[str, Any]) -> str:
    if cell["state"] == "leak":
        return "(leak)"
    if cell["mean"] is None or cell["mean"]["auroc"]["value"] is None:
        return "-"
    auroc = cell["mean"]["auroc"]
    interval = "" if auroc["low"] is None else f" [{auroc['low']:.3f}, {auroc['high']:.3f}]"
    return f"{auroc['value']:.3f}{interval}{' own' if cell['state'] == 'own' else ''}"
