"""The section of a report on calls: what the thresholds that were chosen on validation do to the judged films.

The section of a report on confusions: what is called falsely where which finding is true.

The page's section on calls.

The page's section on confusions.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from hilum.evaluation.inputs import Judged
from hilum.evaluation.views import Cell, Section, TableView, cell, words
from hilum.metrics.bootstrap import PerDraw, estimate, estimate_json, quotient, resampled_sums, share
from hilum.metrics.thresholds import Threshold, predictive_values
from hilum.model.thresholds import OperatingPoints, unsure

Numbers = Float64[np.ndarray, " films"]
Groups = Bool[np.ndarray, "films groups"]

_GROUPS = 5


def operating_section(
    judged: Judged, points: OperatingPoints, *, prevalence: Mapping[str, float], draws: int, seed: int
) -> dict[str, Any]:
    """Sensitivity, specificity, PPV, NPV, alarms and unsure films at each operating point, in the form of report.json.

    Args:
        prevalence: for which PPV and NPV are computed once more, by finding; that of the judged films is always shown.

    Raises:
        ValueError: if a prevalence is not in (0, 1).
    """
    result: dict[str, Any] = {name: {} for name in points.points}
    chosen = [
        (name, k, threshold)
        for name, thresholds in points.points.items()
        for k, finding in enumerate(judged.findings)
        if (threshold := thresholds[finding]) is not None
    ]
    if not chosen:
        return result
    numbers, labels, patients = judged.numbers, judged.labels, judged.patients
    tables = [_groups(numbers[:, k], labels[:, k], threshold) for _, k, threshold in chosen]
    drawn = resampled_sums(np.hstack(tables).astype(np.float64), patients, draws=draws, seed=seed)
    for i, (name, k, threshold) in enumerate(chosen):
        finding = judged.findings[k]
        here = drawn[:, i * _GROUPS : (i + 1) * _GROUPS].T
        result[name][finding] = _finding(tables[i], here, patients, threshold, prevalence.get(finding))
    return result


def _groups(scores: Numbers, labels: Numbers, threshold: Threshold) -> Groups:
    """True and false positives, false and true negatives, and unsure films, a column each."""
    present, absent, called = labels == 1, labels == 0, scores >= threshold.value
    in_band = unsure(scores, threshold) & (present | absent)
    return np.stack([present & called, absent & called, present & ~called, absent & ~called, in_band], axis=1)


def _finding(
    table: Groups,
    drawn: Float64[np.ndarray, "groups draws"],
    patients: Shaped[np.ndarray, " films"],
    threshold: Threshold,
    prevalence: float | None,
) -> dict[str, Any]:
    groups = list(table.T)
    everything = [float(number) for number in table.sum(axis=0)]
    parts = {
        "sensitivity": (0, (0, 2)),
        "specificity": (3, (1, 3)),
        "ppv": (0, (0, 1)),
        "npv": (3, (2, 3)),
        "unsure": (4, (0, 1, 2, 3)),
    }
    result: dict[str, Any] = {
        "threshold": threshold.value,
        "unsure_from": threshold.low,
        "unsure_to": threshold.high,
        "at_prevalence": None,
    }
    result |= {
        name: int(number)
        for name, number in zip(
            ("true_positives", "false_positives", "false_negatives", "true_negatives", "unsure_films"),
            everything,
            strict=True,
        )
    }
    for name, (part, whole) in parts.items():
        here = np.any([groups[i] for i in whole], axis=0)
        result[name] = estimate_json(
            share(
                everything[part],
                sum(everything[i] for i in whole),
                drawn[part],
                np.sum([drawn[i] for i in whole], axis=0),
                patients=len(set(patients[here])),
            )
        )
    films = sum(everything[:4])
    alarms = 100 * (everything[0] + everything[1]) / films if films else float("nan")
    result["alarms_per_100"] = estimate_json(
        estimate(alarms, 100 * quotient(drawn[0] + drawn[1], drawn[:4].sum(axis=0)))
    )
    if prevalence is not None:
        result["at_prevalence"] = _at_prevalence(everything, drawn, prevalence, result)
    return result


def _at_prevalence(everything: list[float], drawn: Any, prevalence: float, result: dict[str, Any]) -> dict[str, Any]:
    """PPV and NPV at a prevalence, from sensitivity and specificity on all films and in each resample.

    Where one of the two is 0 or 1 in every resample, from the ends of their own intervals instead.
    """

    def rates(sums: list[PerDraw]) -> tuple[PerDraw, PerDraw]:
        return quotient(sums[0], sums[0] + sums[2]), quotient(sums[3], sums[1] + sums[3])

    on_all = predictive_values(*rates([np.array([number]) for number in everything]), prevalence)
    in_draws = predictive_values(*rates(list(drawn)), prevalence)
    found = [estimate(float(value[0]), per_draw) for value, per_draw in zip(on_all, in_draws, strict=True)]
    if {result["sensitivity"]["value"], result["specificity"]["value"]} & {0.0, 1.0}:
        ends = []
        for end in ("low", "high"):
            sensitivity, specificity = (
                np.array([result[name][end]], np.float64) for name in ("sensitivity", "specificity")
            )
            ends.append(predictive_values(sensitivity, specificity, prevalence))
        found = [one._replace(low=float(ends[0][i][0]), high=float(ends[1][i][0])) for i, one in enumerate(found)]
    return {"prevalence": prevalence, "ppv": estimate_json(found[0]), "npv": estimate_json(found[1])}


POINT = "youden"
"""The operating point whose calls are looked at: the one that asks for no number of anybody."""


def confusions_section(judged: Judged, points: OperatingPoints) -> dict[str, Any]:
    """False calls of each finding among the films with another, as counts, in the form of report.json.

    `films` are those with the true finding (`none`: without any that was judged) and surely without the called one,
    so that findings which occur together are no confusion; `called` of them were called all the same. Where both
    are one finding, the films are those with it. Findings without a threshold are not called.
    """
    labels, thresholds = judged.labels, points.thresholds(POINT)
    called = {
        name: judged.numbers[:, k] >= threshold.value
        for k, name in enumerate(judged.findings)
        if (threshold := thresholds[name]) is not None
    }
    where = {name: labels[:, k] == 1 for k, name in enumerate(judged.findings)}
    rows: dict[str, dict[str, dict[str, int]]] = {}
    for true, present in {**where, "none": (labels == 0).all(axis=1)}.items():
        rows[true] = {}
        for name, calls in called.items():
            among = present if name == true else present & (labels[:, judged.findings.index(name)] == 0)
            rows[true][name] = {"films": int(np.sum(among)), "called": int(np.sum(among & calls))}
    return {"point": POINT, "true": rows}


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
