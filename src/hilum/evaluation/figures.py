"""The report's pictures: roc.png in the spirit of the paper's figure 2, and the paths of the page's inline SVG."""

import io
import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

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
    known = "undefined" if mean["value"] is None else f"{mean['value']:.3f}"
    interval = "" if mean["low"] is None else f" ({mean['low']:.3f} to {mean['high']:.3f})"
    heading, edge = f"{report['system']}: mean AUROC {known}{interval}", _pixels(0.1)
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
    value = "undefined" if auroc["value"] is None else f"{auroc['value']:.3f}"
    interval = "" if auroc["low"] is None else f"{auroc['low']:.3f} to {auroc['high']:.3f}"
    edge = right - _pixels(0.03)
    draw.text(
        (edge, bottom - 0.13 * side), value, "black", _font(10.0), anchor="rs", stroke_width=1, stroke_fill="black"
    )
    draw.text((edge, bottom - 0.04 * side), interval, _SMALL, _font(7.0), anchor="rs")
    title = name.replace("_", " ")
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


def svg_path(across: Sequence[float], up: Sequence[float], *, size: float = 100.0) -> str:
    """The `d` of an SVG path through points of the unit square, the origin at the lower left; empty without points."""
    steps = (f"{x * size:.1f} {(1 - y) * size:.1f}" for x, y in zip(across, up, strict=True))
    return " L".join(steps).join(("M", "")) if across else ""


def scaled(values: Sequence[float], low: float, high: float) -> list[float]:
    """The values on a scale on which low is 0 and high is 1; all 0.5 where the two are equal."""
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]
