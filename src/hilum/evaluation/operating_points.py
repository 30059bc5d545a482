"""The section on calls: what thresholds that were chosen on validation films do to the evaluation set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from hilum.evaluation.case import Case
from hilum.evaluation.curves import threshold_view
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.views import Block, Cell, TableView, View, cell, positives_cell, words
from hilum.metrics.bootstrap import Estimate, estimate_json
from hilum.metrics.influence import Codes, measured_rate, patient_codes
from hilum.metrics.operating_points import STATED, point_label
from hilum.metrics.thresholds import Threshold, predictive_estimates
from hilum.model.thresholds import OperatingPoints, indeterminate

key = "operating_points"

Numbers = Float64[np.ndarray, " films"]


def measure(case: Case) -> dict[str, Any] | None:
    """Each operating point's rates on the evaluation set; None without thresholds."""
    if case.points is None:
        return None
    return operating_section(case.evaluated, case.points, prevalence=case.prevalence)


def operating_section(
    evaluated: EvaluationSet, points: OperatingPoints, *, prevalence: Mapping[str, float]
) -> dict[str, Any]:
    """Sensitivity, specificity, PPV, NPV, positive calls and indeterminate films, in the form of report.json.

    Args:
        prevalence: for which PPV and NPV are computed once more, by finding; that of these films is always shown.

    Raises:
        ValueError: if a prevalence is not in (0, 1).
    """
    codes, _ = patient_codes(evaluated.patients)
    return {
        name: {
            finding: _finding(
                evaluated.numbers[:, k], evaluated.labels[:, k], codes, threshold, prevalence.get(finding)
            )
            for k, finding in enumerate(evaluated.findings)
            if (threshold := thresholds[finding]) is not None
        }
        for name, thresholds in points.points.items()
    }


def _finding(
    scores: Numbers, labels: Numbers, codes: Codes, threshold: Threshold, prevalence: float | None
) -> dict[str, Any]:
    """Films whose label is unknown are left out."""
    present, absent, called = labels == 1, labels == 0, scores >= threshold.value
    known, in_band = present | absent, indeterminate(scores, threshold)
    rates = {
        name: measured_rate(what.astype(np.float64), among, codes, whose)
        for name, what, among, whose in (
            ("sensitivity", called, present, "with the finding"),
            ("specificity", ~called, absent, "without the finding"),
            ("ppv", present, known & called, "called"),
            ("npv", absent, known & ~called, "not called"),
            ("unsure", in_band, known, ""),
            ("alarms_per_100", called, known, ""),
        )
    }
    estimates = {name: rate.estimate for name, rate in rates.items()}
    estimates["alarms_per_100"] = _per_100(estimates["alarms_per_100"])
    at_prevalence = None
    if prevalence is not None:
        ppv, npv = predictive_estimates(rates["sensitivity"], rates["specificity"], prevalence)
        at_prevalence = {"prevalence": prevalence, "ppv": estimate_json(ppv), "npv": estimate_json(npv)}
    return {
        "threshold": threshold.value,
        "unsure_from": threshold.low,
        "unsure_to": threshold.high,
        "unsure_why": threshold.why,
        "at_prevalence": at_prevalence,
        "positives": int(present.sum()),
        "positive_patients": len(np.unique(codes[present])),
        "true_positives": int((present & called).sum()),
        "false_positives": int((absent & called).sum()),
        "false_negatives": int((present & ~called).sum()),
        "true_negatives": int((absent & ~called).sum()),
        "unsure_films": int((known & in_band).sum()),
        **{name: estimate_json(one) for name, one in estimates.items()},
    }


def _per_100(rate: Estimate) -> Estimate:
    return rate._replace(value=100 * rate.value, low=100 * rate.low, high=100 * rate.high)


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
    "With the finding",
)


def view(report: dict[str, Any]) -> View:
    """What thresholds chosen on validation do to these films, a table per operating point."""
    points, title = report["operating_points"], "Calls: what thresholds chosen on validation do here"
    data = threshold_view(report)
    slider = (Block("thresholds.html", data),) if data["rows"] else ()
    if not points:
        nothing = (
            "No thresholds came with these scores, so there are no calls to evaluate. Scores on validation films "
            "(`--validation`) or stated thresholds (`--threshold`) would give some."
        )
        return View("calls", title, (nothing,), blocks=slider)
    origin = report.get("thresholds_from")  # absent from reports of earlier versions
    if list(points) == [STATED]:
        return View(
            "calls",
            "Calls: what the stated thresholds do here",
            (f"A film is called if its score is at least the threshold. {origin}", _PREDICTIVE),
            tables=_tables(points, report["findings"]),
            blocks=slider,
        )
    sentences = [
        "A film is called if its score is at least the threshold. Thresholds were chosen on validation films and are "
        "used here as they were: what they reach here may miss what they were chosen for.",
        *([origin] if origin else []),
        "A score is indeterminate in the threshold's 95 % interval, which stands below it: other validation patients "
        "could have given a threshold on the other side. The rates count such films by the chosen threshold. Where too "
        "few validation patients had the finding for an interval, every score is indeterminate.",
        _PREDICTIVE,
    ]
    return View(
        "calls",
        title,
        tuple(sentences),
        tables=_tables(points, report["findings"]),
        blocks=slider,
    )


_PREDICTIVE = "PPV and NPV hold for the prevalence in these films, and change with it."


def _tables(points: dict[str, Any], findings: dict[str, Any]) -> tuple[TableView, ...]:
    return tuple(TableView(point_label(name), *_rows(point, findings)) for name, point in points.items() if point)


def _rows(point: dict[str, Any], findings: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    stated = any(one["at_prevalence"] for one in point.values())
    rows = []
    for name, one in point.items():
        band = one.get("unsure_why") or f"{one['unsure_from']:.3f} to {one['unsure_to']:.3f}"
        row = [Cell(words(name)), Cell(f"{one['threshold']:.3f}", band), *(cell(one[measure]) for measure in _MEASURES)]
        counted = one if "positives" in one else findings.get(name)
        row.append(positives_cell(counted) if counted else Cell(""))
        if stated:
            row += _at(one["at_prevalence"])
        rows.append(tuple(row))
    return _HEADER + (("At prevalence", "PPV there", "NPV there") if stated else ()), tuple(rows)


def _at(stated: dict[str, Any] | None) -> list[Cell]:
    if stated is None:
        return [Cell("none stated"), Cell(""), Cell("")]
    return [Cell(f"{stated['prevalence']:.3f}"), cell(stated["ppv"]), cell(stated["npv"])]
