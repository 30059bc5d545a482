"""The section on calls: what thresholds that were chosen on validation films do to the evaluation set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from hilum.evaluation.case import Case
from hilum.evaluation.curves import threshold_view
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.views import Block, Cell, TableView, View, cell, words
from hilum.metrics.bootstrap import PerDraw, estimate, estimate_json, quotient, resampled_sums, share
from hilum.metrics.operating_points import point_label
from hilum.metrics.thresholds import Threshold, predictive_values
from hilum.model.thresholds import OperatingPoints, unsure

key = "operating_points"

Numbers = Float64[np.ndarray, " films"]
Groups = Bool[np.ndarray, "films groups"]

_GROUPS = 5


def measure(case: Case) -> dict[str, Any] | None:
    """Each operating point's rates on the evaluation set; None without thresholds."""
    if case.points is None:
        return None
    return operating_section(case.evaluated, case.points, prevalence=case.prevalence, draws=case.draws, seed=case.seed)


def operating_section(
    evaluated: EvaluationSet, points: OperatingPoints, *, prevalence: Mapping[str, float], draws: int, seed: int
) -> dict[str, Any]:
    """Sensitivity, specificity, PPV, NPV, positive calls and indeterminate films, in the form of report.json.

    Args:
        prevalence: for which PPV and NPV are computed once more, by finding; that of these films is always shown.

    Raises:
        ValueError: if a prevalence is not in (0, 1).
    """
    result: dict[str, Any] = {name: {} for name in points.points}
    chosen = [
        (name, k, threshold)
        for name, thresholds in points.points.items()
        for k, finding in enumerate(evaluated.findings)
        if (threshold := thresholds[finding]) is not None
    ]
    if not chosen:
        return result
    numbers, labels, patients = evaluated.numbers, evaluated.labels, evaluated.patients
    tables = [_groups(numbers[:, k], labels[:, k], threshold) for _, k, threshold in chosen]
    drawn = resampled_sums(np.hstack(tables).astype(np.float64), patients, draws=draws, seed=seed)
    for i, (name, k, threshold) in enumerate(chosen):
        finding = evaluated.findings[k]
        here = drawn[:, i * _GROUPS : (i + 1) * _GROUPS].T
        result[name][finding] = _finding(tables[i], here, patients, threshold, prevalence.get(finding))
    return result


def _groups(scores: Numbers, labels: Numbers, threshold: Threshold) -> Groups:
    """True and false positives, false and true negatives, and indeterminate films, a column each."""
    present, absent, called = labels == 1, labels == 0, scores >= threshold.value
    in_band = unsure(scores, threshold) & (present | absent)
    return np.stack([present & called, absent & called, present & ~called, absent & ~called, in_band], axis=1)


def _finding(
    table: Groups,
    drawn: Float64[np.ndarray, "groups draws"],
    patients: Shaped[np.ndarray, " films"],
    threshold: Threshold,
    prevalence: float | None,
) -> dict[str, Any]:
    groups = list(table.T)
    everything = [float(number) for number in table.sum(axis=0)]
    parts = {
        "sensitivity": (0, (0, 2)),
        "specificity": (3, (1, 3)),
        "ppv": (0, (0, 1)),
        "npv": (3, (2, 3)),
        "unsure": (4, (0, 1, 2, 3)),
    }
    result: dict[str, Any] = {
        "threshold": threshold.value,
        "unsure_from": threshold.low,
        "unsure_to": threshold.high,
        "at_prevalence": None,
    }
    result |= {
        name: int(number)
        for name, number in zip(
            ("true_positives", "false_positives", "false_negatives", "true_negatives", "unsure_films"),
            everything,
            strict=True,
        )
    }
    for name, (part, whole) in parts.items():
        here = np.any([groups[i] for i in whole], axis=0)
        result[name] = estimate_json(
            share(
                everything[part],
                sum(everything[i] for i in whole),
                drawn[part],
                np.sum([drawn[i] for i in whole], axis=0),
                patients=len(set(patients[here])),
            )
        )
    films = sum(everything[:4])
    positive_calls = 100 * (everything[0] + everything[1]) / films if films else float("nan")
    result["alarms_per_100"] = estimate_json(
        estimate(positive_calls, 100 * quotient(drawn[0] + drawn[1], drawn[:4].sum(axis=0)))
    )
    if prevalence is not None:
        result["at_prevalence"] = _at_prevalence(everything, drawn, prevalence, result)
    return result


def _at_prevalence(everything: list[float], drawn: Any, prevalence: float, result: dict[str, Any]) -> dict[str, Any]:
    """PPV and NPV at a prevalence, from sensitivity and specificity on all films and in each bootstrap sample.

    Where one of the two is 0 or 1 in every sample, from the ends of their own intervals instead.
    """

    def rates(sums: list[PerDraw]) -> tuple[PerDraw, PerDraw]:
        return quotient(sums[0], sums[0] + sums[2]), quotient(sums[3], sums[1] + sums[3])

    on_all = predictive_values(*rates([np.array([number]) for number in everything]), prevalence)
    in_draws = predictive_values(*rates(list(drawn)), prevalence)
    found = [estimate(float(value[0]), per_draw) for value, per_draw in zip(on_all, in_draws, strict=True)]
    if {result["sensitivity"]["value"], result["specificity"]["value"]} & {0.0, 1.0}:
        ends = []
        for end in ("low", "high"):
            sensitivity, specificity = (
                np.array([result[name][end]], np.float64) for name in ("sensitivity", "specificity")
            )
            ends.append(predictive_values(sensitivity, specificity, prevalence))
        found = [one._replace(low=float(ends[0][i][0]), high=float(ends[1][i][0])) for i, one in enumerate(found)]
    return {"prevalence": prevalence, "ppv": estimate_json(found[0]), "npv": estimate_json(found[1])}


_MEASURES = ("sensitivity", "specificity", "ppv", "npv", "alarms_per_100", "unsure")
_HEADER = (
    "Finding",
    "Threshold",
    "Sensitivity",
    "Specificity",
    "PPV",
    "NPV",
    "Positive calls per 100 films",
    "Indeterminate",
)


def view(report: dict[str, Any]) -> View:
    """What thresholds chosen on validation do to these films, a table per operating point."""
    points, title = report["operating_points"], "Calls: what thresholds chosen on validation do here"
    data = threshold_view(report)
    slider = (Block("thresholds.html", data),) if data["rows"] else ()
    if not points:
        nothing = "No thresholds came with these scores, so there are no calls to evaluate."
        return View("calls", title, (nothing,), blocks=slider)
    sentences = [
        "A film is called if its score is at least the threshold. Thresholds were chosen on validation films and are "
        "used here as they were: what they reach here may miss what they were chosen for.",
        "A score is indeterminate in the threshold's 95 % interval, which stands below it: other validation patients "
        "could have given a threshold on the other side. The rates count such films by the chosen threshold.",
        "PPV and NPV hold for the prevalence in these films, and change with it.",
    ]
    return View(
        "calls",
        title,
        tuple(sentences),
        tables=tuple(TableView(point_label(name), *_rows(point)) for name, point in points.items() if point),
        blocks=slider,
    )


def _rows(point: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    stated = any(one["at_prevalence"] for one in point.values())
    rows = []
    for name, one in point.items():
        band = f"{one['unsure_from']:.3f} to {one['unsure_to']:.3f}"
        row = [Cell(words(name)), Cell(f"{one['threshold']:.3f}", band), *(cell(one[measure]) for measure in _MEASURES)]
        if stated:
            row += _at(one["at_prevalence"])
        rows.append(tuple(row))
    return _HEADER + (("At prevalence", "PPV there", "NPV there") if stated else ()), tuple(rows)


def _at(stated: dict[str, Any] | None) -> list[Cell]:
    if stated is None:
        return [Cell("none stated"), Cell(""), Cell("")]
    return [Cell(f"{stated['prevalence']:.3f}"), cell(stated["ppv"]), cell(stated["npv"])]
