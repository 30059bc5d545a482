"""Plain values that a page shows: sentences, tables, small figures and plots, and the words and numbers in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


def decimal(value: float | None) -> str:
    """Three decimals, or the word undefined."""
    return "undefined" if value is None else f"{value:.3f}"


def interval(estimate: dict[str, Any]) -> str:
    """From low to high, or why there is none."""
    return no_interval(estimate) if estimate["low"] is None else f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def no_interval(estimate: dict[str, Any]) -> str:
    """What stands in the place of an interval: "too few patients with the finding: 3"."""
    return str(estimate.get("why") or "no interval")


def signed_number(value: float | None) -> str:
    """Three decimals with a sign, as differences are written, or the word undefined."""
    return "undefined" if value is None else f"{value:+.3f}"


def signed_interval(difference: dict[str, Any]) -> str:
    """The interval of a difference, with signs, or why there is none."""
    if difference["low"] is None:
        return no_interval(difference)
    return f"{difference['low']:+.3f} to {difference['high']:+.3f}"


def shown_p(value: float | None) -> str:
    """A p-value with three decimals, or that it is smaller or undefined."""
    if value is None:
        return "undefined"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def count(value: int) -> str:
    """With a comma before thousands."""
    return f"{value:,}"


def words(name: str) -> str:
    """A name without underscores."""
    return name.replace("_", " ")


def listed(names: Sequence[str]) -> str:
    """Names in a row, the last after an and."""
    spoken = [words(name) for name in names]
    return spoken[0] if len(spoken) == 1 else f"{', '.join(spoken[:-1])} and {spoken[-1]}"


def plural(number: int, noun: str) -> str:
    """A number with its noun, as in 2 films."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def were(items: Sequence[object]) -> str:
    """The verb for so many."""
    return "was" if len(items) == 1 else "were"


@dataclass(frozen=True)
class Cell:
    """Text, and in small figures below it what belongs to it, such as an interval."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class TableView:
    """A table; the first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Axis(NamedTuple):
    """What an axis measures, and its ticks: a place from 0 to 100, from the left or from above, and a number."""

    name: str
    ticks: tuple[tuple[float, str], ...]


class LineView(NamedTuple):
    """A line of a plot: the `d` of an SVG path, and how it is drawn: curve, chance (dotted) or other (thin)."""

    path: str
    kind: str = "curve"


@dataclass(frozen=True)
class FigureView:
    """A square plot with axes, in 0 to 100 from the upper left, and what it says in words.

    Attributes:
        points: across, up, and the two ends of an upright interval.
        band: the `d` of an SVG path around the intervals of a curve, or empty.
        lines: from the back to the front.
    """

    title: str
    value: str
    small: str
    label: str
    across: Axis
    up: Axis
    points: tuple[tuple[float, float, float, float], ...] = ()
    band: str = ""
    lines: tuple[LineView, ...] = (LineView("M0.0 100.0 L100.0 0.0", "chance"),)


def axis(name: str, low: float | int, high: float | int, *, upright: bool = False, steps: int = 2) -> Axis:
    """An axis from `low` to `high` with equal steps; upright ones count their places from above."""
    ticks = []
    for step in range(steps + 1):
        place = 100 * step / steps
        value = low + (high - low) * step / steps
        ticks.append((100 - place if upright else place, f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"))
    return Axis(name, tuple(ticks))


def band_path(across: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> str:
    """The `d` of an SVG path around the intervals of a curve, all in the unit square; empty without points."""
    if not across:
        return ""
    return svg_path([*across, *reversed(across)], [*lows, *reversed(highs)]) + " Z"


class Marks(NamedTuple):
    """Where an interval, its value and a dotted line of no news lie on an axis, from 0 to 100."""

    low: float
    value: float
    high: float
    chance: float


@dataclass(frozen=True)
class ForestRow:
    """What is compared, in words, and where its marks lie; none where there is no number."""

    name: Cell
    difference: Cell
    marks: Marks | None


@dataclass(frozen=True)
class Forest:
    """A forest plot: intervals one below the other, from minus to plus `limit`."""

    title: str
    limit: float
    rows: tuple[ForestRow, ...]
    first: str = "Subgroup"  # what the rows are


@dataclass(frozen=True)
class Block:
    """A piece of a section with a template of its own, which finds its content under the name `data`."""

    template: str
    data: Any


@dataclass(frozen=True)
class View:
    """One section as it is shown: on the page, in its list of contents, and in the model card.

    Attributes:
        name: its anchor on the page.
        contents: what the list of contents calls it; the title up to its colon if empty.
        legend: what the tables and figures show.
        blocks: pieces that only the page shows, after all else.
        on_card: whether the model card shows it too.
    """

    name: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[TableView, ...] = ()
    figures: tuple[FigureView, ...] = ()
    forests: tuple[Forest, ...] = ()
    legend: str = ""
    blocks: tuple[Block, ...] = ()
    contents: str = ""
    on_card: bool = True

    @property
    def entry(self) -> str:
        """What the list of contents calls it."""
        return self.contents or self.title.partition(":")[0]


def cell(estimate: dict[str, Any], *, signed: bool = False) -> Cell:
    """An estimate with its interval, or why there is none; the word undefined where there is no value.

    Args:
        signed: with a plus before what is above 0, as differences are written.
    """
    if estimate["value"] is None:
        return Cell("undefined", str(estimate.get("why") or ""))
    if not signed:
        return Cell(decimal(estimate["value"]), interval(estimate))
    return Cell(signed_number(estimate["value"]), signed_interval(estimate))


def positives_cell(finding: dict[str, Any]) -> Cell:
    """How many films have a finding, and how many patients."""
    return Cell(count(finding["positives"]), plural(finding["positive_patients"], "patient"))


_STEP = 0.05
"""Axes end at a multiple of it."""


def forest(
    title: str, rows: Sequence[tuple[Cell, dict[str, Any]]], *, nothing: str, first: str = "Subgroup"
) -> Forest | None:
    """A plot of named differences; None if there is no number among them.

    Args:
        rows: names, and estimates of a difference.
        nothing: what stands for a difference without a number.
        first: what the rows are.
    """
    ends = [abs(end) for _, one in rows for end in (one["value"], one["low"], one["high"]) if end is not None]
    if not ends:
        return None
    limit = half_width(ends)
    drawn = []
    for name, one in rows:
        shown = Cell(nothing) if one["value"] is None else cell(one, signed=True)
        drawn.append(ForestRow(name, shown, marks(one, -limit, limit, chance=0.0)))
    return Forest(title, limit, tuple(drawn), first)


def half_width(ends: Sequence[float]) -> float:
    """The farthest of these distances from 0, rounded up to a multiple of the axes' step."""
    return _STEP * max(1, math.ceil(round(max(map(abs, ends), default=0.0) / _STEP, 6)))


def marks(estimate: dict[str, Any], low: float, high: float, *, chance: float) -> Marks | None:
    """Where an estimate's marks lie on an axis from low to high, what lies below it at its edge; None if undefined."""
    if estimate["value"] is None:
        return None
    ends = [estimate[key] if estimate[key] is not None else estimate["value"] for key in ("low", "value", "high")]
    return Marks(*(100 * max(0.0, place) for place in scaled([*ends, chance], low, high)))


def svg_path(across: Sequence[float], up: Sequence[float], *, size: float = 100.0) -> str:
    """The `d` of an SVG path through points of the unit square, the origin at the lower left; empty without points."""
    steps = (f"{x * size:.1f} {(1 - y) * size:.1f}" for x, y in zip(across, up, strict=True))
    return " L".join(steps).join(("M", "")) if across else ""


def scaled(values: Sequence[float], low: float, high: float) -> list[float]:
    """The values on a scale on which low is 0 and high is 1; all 0.5 where the two are equal."""
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]
