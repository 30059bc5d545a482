"""The report's pictures: roc.png in the spirit of the paper's figure 2, and the paths of the page's inline SVG."""

import io
from collections.abc import Sequence
from typing import Any

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a3508a", "#8a6d00", "#3f8fc4", "#4d4d4d")
"""Seven that people with a colour vision deficiency tell apart; solid, then dashed, makes fourteen."""
_DASHES = ("-", (0, (4, 1.6)), (0, (1, 1)))

_PNG_DPI = 160


def roc_png(report: dict[str, Any]) -> bytes:
    """All ROC curves in one plot with their AUROCs and the diagonal, as the bytes of a PNG file.

    Args:
        report: the content of report.json. Findings without a curve stand in the legend as undefined.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot, which keeps global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.7), dpi=_PNG_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#8a8a8a", linewidth=1, linestyle=(0, (2, 2)), label="chance: 0.500")
    for i, (name, finding) in enumerate(report["findings"].items()):
        value, curve = finding["auroc"]["value"], finding["curve"]
        axes.plot(
            curve["false_positive_rate"],
            curve["true_positive_rate"],
            color=_COLOURS[i % len(_COLOURS)],
            linestyle=_DASHES[i // len(_COLOURS) % len(_DASHES)],
            linewidth=1.6,
            label=f"{_words(name)}: {'undefined' if value is None else f'{value:.3f}'}",
        )
    mean = report["mean"]["auroc"]
    known = "undefined" if mean["value"] is None else f"{mean['value']:.3f}"
    interval = "" if mean["low"] is None else f" ({mean['low']:.3f}-{mean['high']:.3f})"
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="False positive rate", ylabel="True positive rate")
    axes.set_title(_plain(f"{report['system']}: mean AUROC {known}{interval}"), fontsize=11, loc="left", wrap=True)
    axes.set_aspect("equal")
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9, title="AUROC")
    figure.supxlabel(
        f"{report['films']:,} films of {report['patients']:,} patients, split {report['split']}, protocol "
        f"{report['protocol'] or 'unknown'}. {report['disclaimer'].split('.')[0]}.",
        fontsize=7.5,
        color="#555555",
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": f"Hilum {report['hilum']}"})
    return file.getvalue()


def svg_path(across: Sequence[float], up: Sequence[float], *, size: float = 100.0) -> str:
    """The `d` of an SVG path through points of the unit square, the origin at the lower left; empty without points."""
    steps = (f"{x * size:.1f} {(1 - y) * size:.1f}" for x, y in zip(across, up, strict=True))
    return " L".join(steps).join(("M", "")) if across else ""


def scaled(values: Sequence[float], low: float, high: float) -> list[float]:
    """The values on a scale on which low is 0 and high is 1; all 0.5 where the two are equal."""
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def _words(name: str) -> str:
    return _plain(name.replace("_", " "))


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formulas."""
    return text.replace("$", r"\$")
