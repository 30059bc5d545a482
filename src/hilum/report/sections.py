"""The page's plain sections: sentences, tables and small figures, each made from one section of report.json."""

from dataclasses import dataclass
from typing import Any

from hilum.report.words import decimal, interval, signed_interval


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
