"""The section on ranking: AUROC, average precision and both curves per finding, and what every threshold does."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from hilum.evaluation.case import Case, FindingReport
from hilum.evaluation.views import (
    Block,
    FigureView,
    LineView,
    View,
    axis,
    band_path,
    decimal,
    interval,
    svg_path,
    words,
)
from hilum.findings import drawn
from hilum.metrics.bootstrap import estimate_json
from hilum.metrics.influence import FEWEST_PATIENTS, Codes, measured_rate, patient_codes
from hilum.metrics.operating_points import DEFAULT_POINT
from hilum.metrics.ranking import RocCurve

key = "findings"

Numbers = Float64[np.ndarray, " films"]


def measure(case: Case) -> dict[str, Any]:
    """AUROC, average precision, counts and curve of each finding; the curve of an undefined finding is empty."""
    evaluated, (codes, _) = case.evaluated, patient_codes(case.evaluated.patients)
    return {
        name: _finding_json(finding)
        | {"band": band_json(evaluated.numbers[:, k], evaluated.labels[:, k], codes, finding.curve)}
        for k, (name, finding) in enumerate(case.ranking.findings.items())
    }


def band_json(scores: Numbers, labels: Numbers, codes: Codes, curve: RocCurve) -> dict[str, list[float | None]]:
    """95 % intervals of the sensitivity and of the precision at some of a curve's thresholds; empty if there are none.

    Those of the precision are null where fewer than 10 patients are called.

    Args:
        codes: whose film each is, from 0.
    """
    present, absent = labels == 1, labels == 0
    rows: list[list[float]] = []
    if all(len(np.unique(codes[kind])) >= FEWEST_PATIENTS for kind in (present, absent)):
        finite = curve.thresholds[np.isfinite(curve.thresholds)]
        places = np.unique(np.linspace(0, len(finite) - 1, BAND_POINTS).round().astype(int))
        for threshold in finite[places]:
            called = scores >= threshold
            sensitivity = measured_rate(called.astype(np.float64), present, codes, "with the finding")
            precision = measured_rate(present.astype(np.float64), (present | absent) & called, codes, "called")
            ends = [*sensitivity.interval(), precision.estimate.low, precision.estimate.high]
            rows.append([float(called[absent].mean()), sensitivity.value, *ends])
    return {name: [None if math.isnan(row[i]) else round(row[i], 6) for row in rows] for i, name in enumerate(_BAND)}


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


BAND_POINTS = 24
"""At so many thresholds a curve has an interval."""


class CurveView(NamedTuple):
    """Both curves of a finding as SVG paths."""

    name: str
    roc: str
    precision_recall: str
    prevalence: float  # what guessing reaches
    auroc: dict[str, Any]
    average_precision: dict[str, Any]
    roc_figure: FigureView
    precision_figure: FigureView


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
        roc = svg_path(curve["false_positive_rate"], curve["true_positive_rate"])
        upper, prevalence = svg_path(recall, precision), finding["positives"] / finding["films"]
        point = ((report["operating_points"] or {}).get(DEFAULT_POINT) or {}).get(name)
        figures = _figures(words(name), finding, roc, upper, prevalence, point)
        views.append(
            CurveView(words(name), roc, upper, prevalence, finding["auroc"], finding["average_precision"], *figures)
        )
    return views


def _figures(
    name: str, finding: dict[str, Any], roc: str, upper: str, prevalence: float, point: dict[str, Any] | None
) -> tuple[FigureView, FigureView]:
    """Both plots of a finding, with bands (absent from reports of earlier versions) and the operating point."""
    band = finding.get("band") or {column: [] for column in _BAND}
    auroc, average = decimal(finding["auroc"]["value"]), decimal(finding["average_precision"]["value"])
    chance = svg_path([0.0, 1.0], [prevalence, prevalence])
    return (
        FigureView(
            name,
            auroc,
            "",
            f"ROC curve of {name}, AUROC {auroc}",
            ROC_AXES[0],
            ROC_AXES[1],
            points=_point(point, across=lambda one: 1 - float(one["specificity"]["value"]), up="sensitivity"),
            band=_band(band, "false_positive_rate", "sensitivity"),
            lines=(LineView("M0.0 100.0 L100.0 0.0", "chance"), LineView(roc)),
        ),
        FigureView(
            name,
            average,
            "",
            f"Precision-recall curve of {name}, average precision {average}; guessing reaches {decimal(prevalence)}",
            axis("recall", 0, 1),
            axis("precision", 0, 1, upright=True),
            points=_point(point, across=lambda one: float(one["sensitivity"]["value"]), up="ppv"),
            band=_band(band, "true_positive_rate", "precision"),
            lines=(LineView(chance, "chance"), LineView(upper)),
        ),
    )


def _band(band: dict[str, list[float | None]], across: str, up: str) -> str:
    """The path around the intervals that exist."""
    columns = (band[name] for name in (across, f"{up}_low", f"{up}_high"))
    rows = [(x, low, high) for x, low, high in zip(*columns, strict=True) if low is not None and high is not None]
    return band_path([float(x or 0.0) for x, _, _ in rows], [low for _, low, _ in rows], [high for *_, high in rows])


def _point(
    point: dict[str, Any] | None, *, across: Callable[[dict[str, Any]], float], up: str
) -> tuple[tuple[float, float, float, float], ...]:
    """The operating point in a plot, with the interval of what goes up; none where a rate does not exist."""
    if point is None or None in (point[name]["value"] for name in ("sensitivity", "specificity", up)):
        return ()
    value, low, high = (point[up][key] for key in ("value", "low", "high"))
    ends = (value, value if low is None else low, value if high is None else high)
    return ((100 * across(point), *(100 * (1 - one) for one in ends)),)


ROC_AXES = (axis("false positive rate", 0, 1), axis("true positive rate", 0, 1, upright=True))
_BAND = (
    "false_positive_rate",
    "true_positive_rate",
    "sensitivity_low",
    "sensitivity_high",
    "precision_low",
    "precision_high",
)


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
    return {"findings": data, "rows": rows, "sensitivity": TABLED_SENSITIVITY, "chosen": bool(points)} | {
        "across": ROC_AXES[0],
        "up": ROC_AXES[1],
    }


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


_CURVE, _OTHERS, _CHANCE, _SMALL, _AXES = "#0a6270", "#cdd5dc", "#8a8a8a", "#555555", "#999999"
_COLUMNS = 5
_PNG_DPI = 160
_FINER = 2
"""Everything is drawn so many times larger, then made smaller: lines are smooth."""
_CELL_INCHES, _PLOT_INCHES = (1.9, 2.05), 1.55
_MARGIN_INCHES = (0.5, 0.45)  # on the left and at the top; all others follow
_OUTSIDE = 0.03
"""How far a plot goes on beyond 0 and 1."""


def roc_png(report: dict[str, Any]) -> bytes:
    """Each finding's ROC curve in a plot of its own, before those of all others, as the bytes of a PNG file.

    Args:
        report: the content of report.json. Findings without a curve have an empty plot that says undefined.
    """
    findings = report["findings"]
    columns = min(_COLUMNS, len(findings))
    rows = math.ceil(len(findings) / columns)
    across, up = _CELL_INCHES
    width, height = (_pixels(inches) for inches in (max(5.0, across * columns + 0.5), up * rows + 1.0))
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    curves = [finding["curve"] for finding in findings.values()]
    for place, (name, finding) in enumerate(findings.items()):
        row, column = divmod(place, columns)
        left = _pixels(_MARGIN_INCHES[0] + across * column + 0.1)
        top = _pixels(_MARGIN_INCHES[1] + up * row + 0.2)
        lowest, first = place + columns >= len(findings), column == 0
        _plot(draw, (left, top), name, finding, curves, numbers_below=lowest, numbers_left=first)
    mean = report["mean"]["auroc"]
    ends = "" if mean["low"] is None else f" ({interval(mean)})"
    heading, edge = f"{report['system']}: mean AUROC {decimal(mean['value'])}{ends}", _pixels(0.1)
    draw.text((edge, edge), heading, "black", _fitting(heading, 11.0, width - 2 * edge))
    foot = (
        f"{report['films']:,} films of {report['patients']:,} patients, split {report['split']}, protocol "
        f"{report['protocol'] or 'unknown'}. {report['disclaimer'].split('.')[0]}."
    )
    middle = width // 2
    draw.text((middle, height - _pixels(0.24)), "False positive rate", _SMALL, _font(8.0), anchor="ms")
    draw.text((middle, height - _pixels(0.08)), foot, _SMALL, _fitting(foot, 8.0, width - 2 * edge), anchor="ms")
    _write_upwards(page, "True positive rate", (_pixels(0.04), height // 2), _font(9.0))
    file, notes = io.BytesIO(), PngInfo()
    notes.add_text("Software", f"Hilum {report['hilum']}")
    smaller = page.resize((width // _FINER, height // _FINER), Image.Resampling.BOX)
    smaller.save(file, format="PNG", pnginfo=notes, dpi=(_PNG_DPI, _PNG_DPI))
    return file.getvalue()


def _plot(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    name: str,
    finding: dict[str, Any],
    curves: Sequence[dict[str, Any]],
    *,
    numbers_below: bool,
    numbers_left: bool,
) -> None:
    """One finding's plot, its upper left corner at `corner`."""
    (left, top), side = corner, _pixels(_PLOT_INCHES)
    right, bottom = left + side, top + side

    def place(x: float, y: float) -> tuple[float, float]:
        inner = side / (1 + 2 * _OUTSIDE)
        return left + (x + _OUTSIDE) * inner, bottom - (y + _OUTSIDE) * inner

    def line(curve: dict[str, Any], colour: str, points: float) -> None:
        rates = zip(curve["false_positive_rate"], curve["true_positive_rate"], strict=True)
        places = [place(float(x), float(y)) for x, y in rates]
        if len(places) > 1:
            draw.line(places, colour, _stroke(points), joint="curve")

    for curve in curves:
        if curve is not finding["curve"]:
            line(curve, _OTHERS, 0.6)
    dashes = 40
    for dash in range(0, dashes, 2):
        draw.line([place(*(2 * [part / dashes])) for part in (dash, dash + 1)], _CHANCE, _stroke(0.8))
    line(finding["curve"], _CURVE, 1.9)
    draw.line([(left, top), (left, bottom), (right, bottom)], _AXES, _stroke(0.8))
    for number in (0.0, 0.5, 1.0):
        (x, _), (_, y), tick = place(number, 0.0), place(0.0, number), _pixels(0.03)
        draw.line([(x, bottom), (x, bottom + tick)], _SMALL, _stroke(0.6))
        draw.line([(left, y), (left - tick, y)], _SMALL, _stroke(0.6))
        if numbers_below:
            draw.text((x, bottom + 2 * tick), f"{number:.1f}", _SMALL, _font(7.0), anchor="mt")
        if numbers_left:
            draw.text((left - 2 * tick, y), f"{number:.1f}", _SMALL, _font(7.0), anchor="rm")
    auroc = finding["auroc"]
    value, ends = decimal(auroc["value"]), "" if auroc["low"] is None else interval(auroc)
    edge = right - _pixels(0.03)
    draw.text(
        (edge, bottom - 0.13 * side), value, "black", _font(10.0), anchor="rs", stroke_width=1, stroke_fill="black"
    )
    draw.text((edge, bottom - 0.04 * side), ends, _SMALL, _font(7.0), anchor="rs")
    title = drawn(name)
    draw.text((left, top - _pixels(0.06)), title, "black", _fitting(title, 9.0, side), anchor="ls")


def _pixels(inches: float) -> int:
    return round(inches * _PNG_DPI * _FINER)


def _stroke(points: float) -> int:
    return max(1, round(points * _PNG_DPI * _FINER / 72))


def _font(points: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(points * _PNG_DPI * _FINER / 72)


def _fitting(text: str, points: float, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font in which a line is no wider than it may be."""
    return _font(points * min(1.0, width / max(1.0, _font(points).getlength(text))))


def _write_upwards(page: Image.Image, text: str, place: tuple[int, int], font: Any) -> None:
    """A line that is read from below, centred on a place at its left."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    words = Image.new("RGB", (right - left, bottom - top), "white")
    ImageDraw.Draw(words).text((-left, -top), text, "black", font)
    turned = words.rotate(90, expand=True)
    page.paste(turned, (place[0], place[1] - turned.height // 2))
