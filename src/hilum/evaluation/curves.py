"""ROC and precision-recall curve of a finding in one list of thresholds, in the form of report.json.

The page's ROC and precision-recall curves, and what every threshold on them does.
"""

from typing import Any, NamedTuple

import numpy as np

from hilum.evaluation.figures import svg_path
from hilum.evaluation.views import words
from hilum.metrics.ranking import RocCurve


def curve_json(curve: RocCurve, films: int, positives: int) -> dict[str, Any]:
    """The rates, the precision and the threshold of each point, from no film called to all.

    The true positive rate is the recall, so this is the precision-recall curve too; with the counts of films and
    positives, everything that a threshold does follows. Where no film is called, threshold and precision are null.
    All lists are empty where the films are of one class.

    Args:
        films: with a known label.
        positives: of these, with the finding.
    """
    names = ("false_positive_rate", "true_positive_rate", "precision", "threshold")
    if not 0 < positives < films:
        return {name: [] for name in names}
    hits = curve.true_positive_rate * positives
    called = hits + curve.false_positive_rate * (films - positives)
    precision = np.divide(hits, called, out=np.full(len(called), np.nan), where=called > 0)
    with np.errstate(over="ignore"):
        single = curve.thresholds.astype(np.float32)
    columns = (
        curve.false_positive_rate.round(6),
        curve.true_positive_rate.round(6),
        precision.round(6),
        [float(str(threshold)) for threshold in single],  # as short as a table of scores has it
    )
    return {
        name: [float(number) if np.isfinite(number) else None for number in column]
        for name, column in zip(names, columns, strict=True)
    }


TABLED_SENSITIVITY = 0.9
"""The sensitivity whose threshold stands in the table that is read where scripts do not run."""


class CurveView(NamedTuple):
    """Both curves of a finding as SVG paths."""

    name: str
    roc: str
    precision_recall: str
    prevalence: float  # what guessing reaches, as a share
    auroc: dict[str, Any]
    average_precision: dict[str, Any]


class Step(NamedTuple):
    """What one threshold does to the films."""

    threshold: float
    true_positives: int
    false_positives: int


def curve_views(report: dict[str, Any]) -> list[CurveView]:
    """The curves of the findings that have some."""
    views = []
    for name, finding in report["findings"].items():
        curve = finding["curve"]
        if not curve["threshold"]:
            continue
        pairs = zip(curve["true_positive_rate"], curve["precision"], strict=True)
        recall, precision = zip(*((r, p) for r, p in pairs if p is not None), strict=True)
        views.append(
            CurveView(
                words(name),
                svg_path(curve["false_positive_rate"], curve["true_positive_rate"]),
                svg_path(recall, precision),
                finding["positives"] / finding["films"],
                finding["auroc"],
                finding["average_precision"],
            )
        )
    return views


def steps(finding: dict[str, Any]) -> list[Step]:
    """The curve's thresholds, from the highest down, with the films that reach them; none for an undefined finding."""
    curve, positives = finding["curve"], finding["positives"]
    absent = finding["films"] - positives
    columns = (curve[name] for name in ("threshold", "true_positive_rate", "false_positive_rate"))
    return [
        Step(threshold, round(hits * positives), round(false_alarms * absent))
        for threshold, hits, false_alarms in zip(*columns, strict=True)
        if threshold is not None
    ]


def threshold_view(report: dict[str, Any]) -> dict[str, Any]:
    """What the slider needs, and the table that stands in its place on paper and without scripts."""
    data, rows = {}, []
    points = (report["operating_points"] or {}).get("youden") or {}
    for name, finding in report["findings"].items():
        found = steps(finding)
        if not found:
            continue
        absent = finding["films"] - finding["positives"]
        start = points[name]["threshold"] if name in points else _youden(found, finding["positives"], absent)
        data[words(name)] = {
            "positives": finding["positives"],
            "negatives": absent,
            "start": start,
            "steps": [list(step) for step in found],
        }
        reached = next(step for step in found if step.true_positives >= TABLED_SENSITIVITY * finding["positives"])
        rows.append({"name": words(name), **rates(reached, finding["positives"], absent)})
    return {"data": data, "rows": rows, "sensitivity": TABLED_SENSITIVITY, "chosen": bool(points)}


def _youden(found: list[Step], positives: int, absent: int) -> float:
    return max(found, key=lambda step: step.true_positives / positives - step.false_positives / absent).threshold


def rates(step: Step, positives: int, absent: int) -> dict[str, float | None]:
    """Sensitivity, specificity, PPV, NPV and alarms per 100 films at a threshold; None where there is no such film."""
    threshold, hits, false_alarms = step
    called, films = hits + false_alarms, positives + absent
    return {
        "threshold": threshold,
        "sensitivity": hits / positives,
        "specificity": 1 - false_alarms / absent,
        "ppv": hits / called if called else None,
        "npv": (absent - false_alarms) / (films - called) if called < films else None,
        "alarms": 100 * called / films,
    }
