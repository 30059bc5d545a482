"""Forest plots: differences with their intervals around a line at 0, one below the other."""

import math
from collections.abc import Sequence
from typing import Any

from hilum.report.sections import Cell, Forest, ForestRow
from hilum.report.words import signed_interval

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
