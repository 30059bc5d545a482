"""The section on decisions: what calling films by their score is worth beside calling all or none."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum.evaluation.case import Case
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.views import (
    Cell,
    FigureView,
    LineView,
    TableView,
    View,
    axis,
    band_path,
    cell,
    decimal,
    listed,
    positives_cell,
    scaled,
    svg_path,
    words,
)
from hilum.metrics.bootstrap import number_json
from hilum.metrics.decision import Decision, decision_curve, gains_on_both

key = "decision_curves"

_BELOW = 0.25
"""How far plots go on below 0, as a part of what lies above."""


def measure(case: Case) -> dict[str, Any]:
    """Net benefit over thresholds for each finding, in the form of report.json.

        undefined    why there is none, or empty
        findings: {FINDING: {films, positives, positive_patients, prevalence, why (no interval, or empty), threshold,
            net_benefit, net_benefit_low, net_benefit_high, treat_all, gain, gain_low, gain_high, beats_both}}

    The last nine are lists, an entry per threshold; treating none is 0 everywhere. `gain` is net benefit minus the
    better of treating all and none. A finding of which the films show one class only is left out.
    """
    return decision_section(case.evaluated)


def decision_section(evaluated: EvaluationSet) -> dict[str, Any]:
    """What `measure` gives, from an evaluation set alone."""
    numbers, labels, patients = evaluated.numbers, evaluated.labels, evaluated.patients
    if (numbers < 0).any() or (numbers > 1).any():
        return {
            "undefined": "Scores outside [0, 1] are no probabilities, so a threshold says nothing of costs.",
            "findings": {},
        }
    found = {}
    for k, name in enumerate(evaluated.findings):
        curve = decision_curve(numbers[:, k], labels[:, k], patients)
        if curve:
            found[name] = _finding(curve, labels[:, k] == 1, ~np.isnan(labels[:, k]), patients)
    return {"undefined": "", "findings": found}


def _finding(curve: Sequence[Decision], present: Any, known: Any, patients: Any) -> dict[str, Any]:
    columns = {
        "threshold": [round(one.threshold, 6) for one in curve],
        "treat_all": [round(one.treat_all.value, 6) for one in curve],
        "beats_both": [gains_on_both(one) for one in curve],
    }
    for name in ("net_benefit", "gain"):
        estimates = [getattr(one, name).estimate for one in curve]
        for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            columns[name + suffix] = [number_json(round(getattr(one, end), 6)) for one in estimates]
    return {
        "films": int(known.sum()),
        "positives": int(present.sum()),
        "positive_patients": len(set(patients[present])),
        "prevalence": float(present.sum() / known.sum()),
        "why": curve[0].net_benefit.why,
        **columns,
    }


_HEADER = (
    "Finding",
    "Better than both by more than chance",
    "At the threshold",
    "Net benefit there",
    "Gain there",
    "With the finding",
)


def view(report: dict[str, Any]) -> View | None:
    """Net benefit beside treating all and none: what is clear in words, a table at the prevalence, a plot each."""
    section, title = report["decision_curves"], "Decisions: what calling by the score is worth"
    if not section:
        return None
    if section["undefined"]:
        return View("decisions", title, (section["undefined"],))
    findings = section["findings"]
    sentences = [
        "Net benefit: true calls per film, less the needless calls, each of which costs the odds of the threshold. At "
        "a tenth, a needless call costs a ninth of a missed finding. Which threshold is right depends on what a call "
        "leads to, not of statistics.",
    ]
    clear = [name for name, one in findings.items() if any(one["beats_both"])]
    if clear:
        sentences.append(
            "At some threshold better than calling all films and than calling none, by more than chance: "
            f"{listed(clear)}."
        )
    untested = [name for name, one in findings.items() if one["why"]]
    silent = [name for name in findings if name not in clear and name not in untested]
    if silent:
        sentences.append(f"At no threshold of its plot clearly better than both: {listed(silent)}.")
    if untested:
        sentences.append(f"Too few patients to say that of: {listed(untested)}.")
    return View(
        "decisions",
        title,
        tuple(sentences),
        tables=(TableView("At the threshold nearest the prevalence", _HEADER, _rows(findings)),) if findings else (),
        figures=tuple(_figure(words(name), one) for name, one in findings.items()),
        legend=(
            "Across: the threshold; up: net benefit per film. Line: calling films whose score reaches the threshold, "
            "shaded its 95 % interval, in which patients are the units; thin: calling all films; dotted: calling none. "
            "Intervals hold threshold by threshold, not for the whole curve, and take the scores for the probabilities "
            "that they say they are: a gain that scores lose by being miscalibrated is lost here too. Gain: net "
            "benefit minus that of the better of calling all and none."
        ),
        contents="Decisions",
    )


def _rows(findings: dict[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    rows = []
    for name, one in findings.items():
        place = int(np.argmin(np.abs(np.array(one["threshold"]) - one["prevalence"])))
        estimates = (_estimate(one, measure, place) for measure in ("net_benefit", "gain"))
        benefit, gain = estimates
        rows.append(
            (
                Cell(words(name)),
                Cell(_stretches(one)),
                Cell(decimal(one["threshold"][place])),
                cell(benefit, signed=True),
                cell(gain, signed=True),
                positives_cell(one),
            )
        )
    return tuple(rows)


def _estimate(finding: dict[str, Any], measure: str, place: int) -> dict[str, Any]:
    ends = {
        end: finding[measure + suffix][place] for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
    }
    return {**ends, "undefined": 0, "why": finding["why"]}


def _stretches(finding: dict[str, Any]) -> str:
    """The thresholds at which both defaults are beaten, in stretches."""
    if finding["why"]:
        return "not tested"
    stretches: list[list[float]] = []
    before = False
    for threshold, better in zip(finding["threshold"], finding["beats_both"], strict=True):
        if better and before:
            stretches[-1][1] = threshold
        elif better:
            stretches.append([threshold, threshold])
        before = better
    return ", ".join(f"{low:.3f} to {high:.3f}" for low, high in stretches) or "nowhere"


def _figure(name: str, finding: dict[str, Any]) -> FigureView:
    across, measured = finding["threshold"], finding["net_benefit"]
    ends = [finding["net_benefit_high"], finding["net_benefit_low"]]
    highs, lows = ([own if end is None else end for own, end in zip(measured, column, strict=True)] for column in ends)
    top = _rounded_up(max(*highs, finding["prevalence"]))
    bottom, limit = -_BELOW * top, across[-1]
    start = [0.0, *across]

    def placed(values: Sequence[float]) -> list[float]:
        return scaled([min(max(value, bottom), top) for value in values], bottom, top)

    def line(values: Sequence[float]) -> str:
        xs, ys = _above([*start], [*values], bottom)
        return svg_path([x / limit for x in xs], placed(ys))

    best = max(zip(finding["gain"], across, strict=True))
    return FigureView(
        name,
        _stretches(finding),
        "better than both",
        f"Decision curve of {name}: net benefit by threshold up to {limit:.2f}; the largest gain over calling all or "
        f"none is {best[0]:.4f}, at {best[1]:.3f}",
        axis("threshold", 0, limit),
        axis("net benefit", bottom, top, upright=True, steps=5),
        band=band_path([x / limit for x in across], placed(lows), placed(highs)) if not finding["why"] else "",
        lines=(
            LineView(svg_path([0.0, 1.0], placed([0.0, 0.0])), "chance"),
            LineView(line([finding["prevalence"], *finding["treat_all"]]), "other"),
            LineView(line([finding["prevalence"], *measured])),
        ),
    )


def _above(across: list[float], values: list[float], bottom: float) -> tuple[list[float], list[float]]:
    """The line up to where it first falls below the plot's bottom."""
    for i, value in enumerate(values):
        if value < bottom:
            before = values[i - 1]
            part = (before - bottom) / (before - value)
            x = across[i - 1] + part * (across[i] - across[i - 1])
            return [*across[:i], x], [*values[:i], bottom]
    return across, values


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 4 and 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value - 1e-12)
