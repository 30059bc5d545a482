"""The section on ranking: AUROC, average precision and both curves per finding, and what every threshold does."""

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hilum.evaluation.case import Case, FindingReport
from hilum.evaluation.views import Block, View, decimal, interval, svg_path, words
from hilum.metrics.bootstrap import estimate_json
from hilum.metrics.operating_points import DEFAULT_POINT
from hilum.metrics.ranking import RocCurve

key = "findings"


def measure(case: Case) -> dict[str, Any]:
    """AUROC, average precision, counts and curve of each finding; the curve of an undefined finding is empty."""
    return {name: _finding_json(finding) for name, finding in case.ranking.findings.items()}


def _finding_json(finding: FindingReport) -> dict[str, Any]:
    return {
        "auroc": estimate_json(finding.auroc),
        "average_precision": estimate_json(finding.average_precision),
        "films": finding.films,
        "patients": finding.patients,
        "positives": finding.positives,
        "positive_patients": finding.positive_patients,
        "curve": curve_json(finding.curve, finding.films, finding.positives),
    }


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
    prevalence: float  # what guessing reaches
    auroc: dict[str, Any]
    average_precision: dict[str, Any]


class Step(NamedTuple):
    """What one threshold does to the films."""

    threshold: float
    true_positives: int
    false_positives: int


def view(report: dict[str, Any]) -> View:
    """Both curves of each finding; the page's table of findings and the model card's stand before all sections."""
    curves = Block("curves.html", curve_views(report))
    return View("curves", "ROC and precision-recall curves", blocks=(curves,), contents="Curves", on_card=False)


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
        Step(threshold, round(hits * positives), round(false_positives * absent))
        for threshold, hits, false_positives in zip(*columns, strict=True)
        if threshold is not None
    ]


def threshold_view(report: dict[str, Any]) -> dict[str, Any]:
    """What the slider needs, and the table that stands in its place on paper and without scripts."""
    data, rows = {}, []
    points = (report["operating_points"] or {}).get(DEFAULT_POINT) or {}
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
    return {"findings": data, "rows": rows, "sensitivity": TABLED_SENSITIVITY, "chosen": bool(points)}


def _youden(found: list[Step], positives: int, absent: int) -> float:
    return max(found, key=lambda step: step.true_positives / positives - step.false_positives / absent).threshold


def rates(step: Step, positives: int, absent: int) -> dict[str, float | None]:
    """What a threshold reaches: rates, and positive calls per 100 films; None where there is no such film."""
    threshold, hits, false_positives = step
    called, films = hits + false_positives, positives + absent
    return {
        "threshold": threshold,
        "sensitivity": hits / positives,
        "specificity": 1 - false_positives / absent,
        "ppv": hits / called if called else None,
        "npv": (absent - false_positives) / (films - called) if called < films else None,
        "positive_calls": 100 * called / films,
    }


_CURVE, _OTHERS, _CHANCE, _SMALL = "#0a6270", "#cdd5dc", "#8a8a8a", "#555555"
_COLUMNS = 5
_PNG_DPI = 160


def roc_png(report: dict[str, Any]) -> bytes:
    """Each finding's ROC curve in a plot of its own, before those of all others, as the bytes of a PNG file.

    Args:
        report: the content of report.json. Findings without a curve have an empty plot that says undefined.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot, which keeps global state
    from matplotlib.figure import Figure

    findings = report["findings"]
    columns = min(_COLUMNS, len(findings))
    rows = math.ceil(len(findings) / columns)
    figure = Figure(
        figsize=(max(5.0, 1.9 * columns + 0.5), 2.05 * rows + 1.0),
        dpi=_PNG_DPI,
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    plots = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, finding) in zip(plots, findings.items(), strict=False):
        _plot(axes, name, finding, [other["curve"] for other in findings.values() if other is not finding])
    for axes in plots[len(findings) :]:
        axes.set_axis_off()
    for axes in plots[max(0, len(findings) - columns) : len(findings)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    mean = report["mean"]["auroc"]
    ends = "" if mean["low"] is None else f" ({interval(mean)})"
    title = _plain(f"{report['system']}: mean AUROC {decimal(mean['value'])}{ends}")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", wrap=True)
    figure.supylabel("True positive rate", fontsize=9)
    figure.supxlabel(
        "False positive rate\n"
        f"{report['films']:,} films of {report['patients']:,} patients, split {report['split']}, protocol "
        f"{report['protocol'] or 'unknown'}. {report['disclaimer'].split('.')[0]}.",
        fontsize=8,
        color=_SMALL,
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": f"Hilum {report['hilum']}"})
    return file.getvalue()


def _plot(axes: Any, name: str, finding: dict[str, Any], others: Sequence[dict[str, Any]]) -> None:
    for curve in others:
        axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=_OTHERS, linewidth=0.6)
    axes.plot([0, 1], [0, 1], color=_CHANCE, linewidth=0.8, linestyle=(0, (2, 2)))
    curve, auroc = finding["curve"], finding["auroc"]
    axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=_CURVE, linewidth=1.9)
    place = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
    axes.text(0.98, 0.13, decimal(auroc["value"]), fontsize=10, weight="bold", **place)
    axes.text(0.98, 0.03, "" if auroc["low"] is None else interval(auroc), fontsize=7, color=_SMALL, **place)
    axes.set_title(_plain(name.replace("_", " ")), fontsize=9, loc="left")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
    axes.tick_params(labelsize=7, length=2, colors=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formulas."""
    return text.replace("$", r"\$")
