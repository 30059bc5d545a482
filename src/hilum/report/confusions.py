"""The page's section on confusions."""

from typing import Any, NamedTuple

from hilum.report.operating import POINTS
from hilum.report.words import words

_FEWEST = 10
"""Films of which a share is worth a sentence."""
_LISTED = 5


class ConfusionCell(NamedTuple):
    """A share of films in per cent as text, and how dark its place is, from 0 to 1."""

    text: str
    title: str
    strength: float
    own: bool  # the finding itself, whose share is the sensitivity


def confusions_view(report: dict[str, Any]) -> dict[str, Any] | None:
    """The table of false calls and its largest entries in words; None without calls."""
    section = report["confusions"]
    if not section:
        return None
    rows = section["true"]
    called = list(next(iter(rows.values())))
    if not called:
        return None
    table = [
        (
            "No finding" if true == "none" else words(true),
            [_cell(true, name, row[name]) for name in called],
        )
        for true, row in rows.items()
    ]
    return {
        "point": POINTS[section["point"]],
        "header": [words(name) for name in called],
        "rows": table,
        "sentences": _largest(rows),
    }


def _cell(true: str, called: str, count: dict[str, int]) -> ConfusionCell:
    films, number = count["films"], count["called"]
    if not films:
        return ConfusionCell("", "no such film", 0.0, true == called)
    return ConfusionCell(f"{100 * number / films:.0f}", f"{number:,} of {films:,}", number / films, true == called)


def _largest(rows: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    """Where a false call is most more frequent than on films without any finding."""
    found = []
    for true, row in rows.items():
        for called, count in row.items():
            base = rows["none"][called]
            if "none" != true != called and count["films"] >= _FEWEST and base["films"] >= _FEWEST:
                share, usual = count["called"] / count["films"], base["called"] / base["films"]
                found.append((share - usual, true, called, count, usual))
    found.sort(key=lambda one: -one[0])
    return [
        f"{words(called)} is called falsely on {count['called']:,} of {count['films']:,} films with {words(true)} "
        f"({100 * count['called'] / count['films']:.0f} %), and on {100 * usual:.0f} % of films without any finding."
        for more, true, called, count, usual in found[:_LISTED]
        if more > 0
    ]
