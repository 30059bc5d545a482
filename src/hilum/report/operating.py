"""The page's section on calls."""

from typing import Any

from hilum.report.sections import Cell, Section, TableView, cell
from hilum.report.words import words

POINTS = {
    "youden": "Largest sensitivity + specificity (Youden)",
    "sensitivity-90": "Sensitivity of 90 % on validation",
    "specificity-90": "Specificity of 90 % on validation",
    "alarms-10": "10 alarms per 100 films on validation",
}
"""What each operating point is called."""

_MEASURES = ("sensitivity", "specificity", "ppv", "npv", "alarms_per_100", "unsure")
_HEADER = ("Finding", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV", "Alarms per 100 films", "Unsure")


def operating_view(report: dict[str, Any]) -> Section:
    """What thresholds chosen on validation do to these films, a table per operating point."""
    points, title = report["operating_points"], "Calls: what thresholds chosen on validation do here"
    if not points:
        return Section("calls", title, ("No thresholds came with these scores, so there are no calls to judge.",))
    sentences = [
        "A film is called if its score is at least the threshold. Thresholds were chosen on validation films and are "
        "used here as they were: what they reach here may miss what they were chosen for.",
        "A score is unsure where the threshold itself is: in the 95 % interval of the thresholds that other validation "
        "patients would have given. The rates count unsure films by the side of the threshold that they lie on.",
        "PPV and NPV hold for the share of films with the finding among these, and change with it.",
    ]
    return Section(
        "calls",
        title,
        tuple(sentences),
        tables=tuple(TableView(POINTS[name], *_rows(point)) for name, point in points.items() if point),
    )


def _rows(point: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    stated = any(one["at_prevalence"] for one in point.values())
    rows = []
    for name, one in point.items():
        band = f"unsure {one['unsure_from']:.3f} to {one['unsure_to']:.3f}"
        row = [Cell(words(name)), Cell(f"{one['threshold']:.3f}", band), *(cell(one[measure]) for measure in _MEASURES)]
        if stated:
            row += _at(one["at_prevalence"])
        rows.append(tuple(row))
    return _HEADER + (("At prevalence", "PPV there", "NPV there") if stated else ()), tuple(rows)


def _at(stated: dict[str, Any] | None) -> list[Cell]:
    if stated is None:
        return [Cell("none stated"), Cell(""), Cell("")]
    return [Cell(f"{stated['prevalence']:.3f}"), cell(stated["ppv"]), cell(stated["npv"])]
