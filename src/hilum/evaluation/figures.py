"""The report's pictures: roc.png in the spirit of the paper's figure 2, and the paths of the page's inline SVG."""

import io
import math
from collections.abc import Sequence
from typing import Any

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
    known = "undefined" if mean["value"] is None else f"{mean['value']:.3f}"
    interval = "" if mean["low"] is None else f" ({mean['low']:.3f} to {mean['high']:.3f})"
    figure.suptitle(
        _plain(f"{report['system']}: mean AUROC {known}{interval}"), fontsize=11, x=0.01, ha="left", wrap=True
    )
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
    value = "undefined" if auroc["value"] is None else f"{auroc['value']:.3f}"
    interval = "" if auroc["low"] is None else f"{auroc['low']:.3f} to {auroc['high']:.3f}"
    place = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
    axes.text(0.98, 0.13, value, fontsize=10, weight="bold", **place)
    axes.text(0.98, 0.03, interval, fontsize=7, color=_SMALL, **place)
    axes.set_title(_plain(name.replace("_", " ")), fontsize=9, loc="left")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
    axes.tick_params(labelsize=7, length=2, colors=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")


def svg_path(across: Sequence[float], up: Sequence[float], *, size: float = 100.0) -> str:
    """The `d` of an SVG path through points of the unit square, the origin at the lower left; empty without points."""
    steps = (f"{x * size:.1f} {(1 - y) * size:.1f}" for x, y in zip(across, up, strict=True))
    return " L".join(steps).join(("M", "")) if across else ""


def scaled(values: Sequence[float], low: float, high: float) -> list[float]:
    """The values on a scale on which low is 0 and high is 1; all 0.5 where the two are equal."""
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formulas."""
    return text.replace("$", r"\$")
