"""Numbers and names as the pages write them.

The page's plain sections: sentences, tables and small figures, each made from one section of report.json.

Forest plots: differences with their intervals around a line at 0, one below the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def decimal(value: float | None) -> str:
    """Three decimals, or the word undefined."""
    return "undefined" if value is None else f"{value:.3f}"


def interval(estimate: dict[str, Any]) -> str:
    """From low to high, or that there is none."""
    return "no interval" if estimate["low"] is None else f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def signed_interval(difference: dict[str, Any]) -> str:
    """The interval of a difference, with signs, or that there is none."""
    return "no interval" if difference["low"] is None else f"{difference['low']:+.3f} to {difference['high']:+.3f}"


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


@dataclass(frozen=True)
class FigureView:
    """A square plot: points with upright intervals, in 0 to 100 from the upper left, and what it says in words."""

    title: str
    value: str
    small: str
    label: str
    points: tuple[tuple[float, float, float, float], ...]  # across, up, and the interval's two ends


@dataclass(frozen=True)
class ForestRow:
    """What is compared, in words, and where its marks lie, from 0 to 100; none where there is no number."""

    name: Cell
    difference: Cell
    marks: tuple[float, float, float] | None  # the interval's low end, the value, the high end


@dataclass(frozen=True)
class Forest:
    """A plot whose middle is 0 and whose ends are minus and plus `limit`."""

    title: str
    limit: float
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    name: str  # its anchor
    title: str
    sentences: tuple[str, ...]
    tables: tuple[TableView, ...] = ()
    figures: tuple[FigureView, ...] = ()
    forests: tuple[Forest, ...] = ()
    legend: str = ""  # what the figures show


def cell(estimate: dict[str, Any], *, signed: bool = False) -> Cell:
    """An estimate with its interval; only the word undefined where there is none.

    Args:
        signed: with a plus before what is above 0, as differences are written.
    """
    if estimate["value"] is None:
        return Cell("undefined")
    if not signed:
        return Cell(decimal(estimate["value"]), interval(estimate))
    return Cell(f"{estimate['value']:+.3f}", signed_interval(estimate))


_STEP = 0.05
"""Axes end at a multiple of it."""


def forest(title: str, rows: Sequence[tuple[Cell, dict[str, Any]]], *, nothing: str) -> Forest | None:
    """A plot of named differences; None if there is no number among them.

    Args:
        rows: names, and estimates of a difference.
        nothing: what stands for a difference without a number.
    """
    ends = [abs(end) for _, one in rows for end in (one["value"], one["low"], one["high"]) if end is not None]
    if not ends:
        return None
    limit: float = _STEP * max(1, math.ceil(round(max(ends) / _STEP, 6)))

    def place(end: float) -> float:
        return 50 + 50 * end / limit

    drawn = []
    for name, one in rows:
        value, low, high = one["value"], one["low"], one["high"]
        if value is None:
            drawn.append(ForestRow(name, Cell(nothing), None))
            continue
        marks = (place(value if low is None else low), place(value), place(value if high is None else high))
        drawn.append(ForestRow(name, Cell(f"{value:+.3f}", signed_interval(one)), marks))
    return Forest(title, limit, tuple(drawn))
