"""The section on confusions: which finding is called where another one is true."""

from typing import Any, NamedTuple

import numpy as np

from hilum.evaluation.case import Case
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.views import Block, View, words
from hilum.metrics.operating_points import DEFAULT_POINT, point_label
from hilum.model.thresholds import OperatingPoints

key = "confusions"


def measure(case: Case) -> dict[str, Any] | None:
    """False calls of each finding among the films with another; None without thresholds."""
    if case.points is None:
        return None
    return confusions_section(case.evaluated, case.points)


def confusions_section(evaluated: EvaluationSet, points: OperatingPoints) -> dict[str, Any]:
    """False calls of each finding among the films with another, as counts, in the form of report.json.

    `films` are those with the true finding (`none`: without any that was evaluated) and surely without the called one,
    so that findings which occur together are no confusion; `called` of them were called all the same. Where both
    are one finding, the films are those with it. Findings without a threshold are not called.
    """
    point = points.nearest(DEFAULT_POINT)
    labels, thresholds = evaluated.labels, points.thresholds(point)
    called = {
        name: evaluated.numbers[:, k] >= threshold.value
        for k, name in enumerate(evaluated.findings)
        if (threshold := thresholds[name]) is not None
    }
    where = {name: labels[:, k] == 1 for k, name in enumerate(evaluated.findings)}
    rows: dict[str, dict[str, dict[str, int]]] = {}
    for true, present in {**where, "none": (labels == 0).all(axis=1)}.items():
        rows[true] = {}
        for name, calls in called.items():
            among = present if name == true else present & (labels[:, evaluated.findings.index(name)] == 0)
            rows[true][name] = {"films": int(np.sum(among)), "called": int(np.sum(among & calls))}
    return {"point": point, "true": rows}


_FEWEST = 10
"""Films of which a proportion is worth a sentence."""
_LISTED = 5


class ConfusionCell(NamedTuple):
    """A proportion of films in per cent as text, and how dark its place is, from 0 to 1."""

    text: str
    title: str
    strength: float
    own: bool  # the finding itself, whose proportion is the sensitivity


def view(report: dict[str, Any]) -> View | None:
    """The table of false calls and its largest entries in words; None without calls."""
    table = confusions_table(report)
    if table is None:
        return None
    return View(
        "confusions",
        "Confusions: what is called where something else is true",
        (f"Calls at the operating point “{table['point']}”.", *table["sentences"]),
        blocks=(Block("confusions.html", table),),
        on_card=False,
    )


def confusions_table(report: dict[str, Any]) -> dict[str, Any] | None:
    """The rows and columns of false calls and the largest in words; None without calls."""
    section = report["confusions"]
    if not section:
        return None
    rows = section["true"]
    called = list(next(iter(rows.values())))
    if not called:
        return None
    table = [
        (
            "No finding" if true == "none" else words(true),
            [_cell(true, name, row[name]) for name in called],
        )
        for true, row in rows.items()
    ]
    return {
        "point": point_label(section["point"]),
        "header": [words(name) for name in called],
        "rows": table,
        "sentences": _largest(rows),
    }


def _cell(true: str, called: str, count: dict[str, int]) -> ConfusionCell:
    films, number = count["films"], count["called"]
    if not films:
        return ConfusionCell("", "no such film", 0.0, true == called)
    return ConfusionCell(f"{100 * number / films:.0f}", f"{number:,} of {films:,}", number / films, true == called)


def _largest(rows: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    """Where a false call is most more frequent than on films without any finding."""
    found = []
    for true, row in rows.items():
        for called, count in row.items():
            base = rows["none"][called]
            if "none" != true != called and count["films"] >= _FEWEST and base["films"] >= _FEWEST:
                proportion, usual = count["called"] / count["films"], base["called"] / base["films"]
                found.append((proportion - usual, true, called, count, usual))
    found.sort(key=lambda one: -one[0])
    return [
        f"{words(called)} is called falsely on {count['called']:,} of {count['films']:,} films with {words(true)} "
        f"({100 * count['called'] / count['films']:.0f} %), and on {100 * usual:.0f} % of films without any finding."
        for more, true, called, count, usual in found[:_LISTED]
        if more > 0
    ]
