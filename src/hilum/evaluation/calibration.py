"""The section on calibration: whether scores are probabilities."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.evaluation.case import Case
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.views import Cell, FigureView, TableView, View, cell, decimal, interval, listed, words
from hilum.metrics.bootstrap import estimate, estimate_json, macro_mean
from hilum.metrics.calibration import BINS, Bin, Calibration, Measured, calibration

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle

key = "calibration"

_MEANS = ("ece", "brier")
_MEASURES = ("ece", "brier", "brier_skill", "excess", "slope")


def measure(case: Case) -> dict[str, Any]:
    """Calibration error, Brier score and reliability table per finding, in the form of report.json.

    `undefined` says why there is none; it is empty if there is. `how` says how the scores were calibrated, if that is
    known.
    """
    how = _how_calibrated(case.model.bundle, case) if case.model else ""
    return calibration_section(case.evaluated, draws=case.draws, seed=case.seed) | {"how": how}


def _how_calibrated(bundle: "Bundle", case: Case) -> str:
    used = bundle.calibration_set
    if used is None:
        return "This model's scores were never calibrated."
    text = f"They were calibrated ({used.method}) on {used.films:,} validation films of {used.patients:,} patients."
    if used.fingerprint == case.films.select(case.split).fingerprint():
        return f"{text} These are the films evaluated here, so their calibration is flattered."
    return text


def calibration_section(evaluated: EvaluationSet, *, draws: int, seed: int) -> dict[str, Any]:
    """What `measure` gives, from an evaluation set alone."""
    numbers, labels, patients = evaluated.numbers, evaluated.labels, evaluated.patients
    if (numbers < 0).any() or (numbers > 1).any():
        nothing = estimate_json(estimate(float("nan"), np.full(draws, np.nan)))
        return {
            "undefined": "Scores outside [0, 1] are no probabilities, so their calibration cannot be evaluated.",
            "how": "",
            "bins": BINS,
            "mean": dict.fromkeys(_MEANS, nothing),
            "findings": {},
        }
    found = {
        name: calibration(numbers[:, k], labels[:, k], patients, draws=draws, seed=seed)
        for k, name in enumerate(evaluated.findings)
    }
    return {
        "undefined": "",
        "how": "",
        "bins": BINS,
        "mean": {name: _mean([getattr(one, name) for one in found.values()]) for name in _MEANS},
        "findings": {name: _finding(one) for name, one in found.items()},
    }


def _mean(measured: list[Measured]) -> dict[str, Any]:
    values = np.array([one.value for one in measured])
    return estimate_json(estimate(*macro_mean(values, np.stack([one.per_draw for one in measured], axis=1))))


def _finding(found: Calibration) -> dict[str, Any]:
    return {
        **{name: estimate_json(getattr(found, name).estimate) for name in _MEASURES},
        "ece_by_chance": estimate_json(found.ece_by_chance),
        "reliability": [_row(one) for one in found.bins],
    }


def _row(one: Bin) -> dict[str, Any]:
    return {**one._asdict(), "present": estimate_json(one.present)}


_HEADER = (
    "Finding",
    "Calibration error",
    "By chance",
    "Brier score",
    "Brier skill",
    "Mean score minus proportion",
    "Slope",
)


def view(report: dict[str, Any]) -> View:
    """What the scores mean as probabilities: sentences, the table of measures, a reliability diagram per finding."""
    section = report["calibration"]
    title = "What a score means: calibration"
    if section["undefined"]:
        return View("calibration", title, (section["undefined"],))
    error, findings = section["mean"]["ece"], section["findings"]
    sentences = ["Where scores are calibrated, 30 of 100 films with a score of 0.30 have the finding."]
    if section["how"]:
        sentences.append(section["how"])
    if error["value"] is not None:
        sentences.append(
            f"Here the proportion of films with a finding lies {decimal(error['value'])} from the mean score "
            f"({interval(error)}), on average over bins of films and over findings."
        )
    off = [name for name, one in findings.items() if _above(one["ece"]["value"], one["ece_by_chance"]["high"])]
    sentences.append(
        f"Further off than chance explains: {listed(off)}."
        if off
        else "No finding's scores are further off than chance explains on so few films."
    )
    rows = tuple(
        (
            Cell(words(name)),
            cell(one["ece"]),
            cell(one["ece_by_chance"]),
            cell(one["brier"]),
            cell(one["brier_skill"]),
            cell(one["excess"], signed=True),
            cell(one["slope"]),
        )
        for name, one in findings.items()
    )
    return View(
        "calibration",
        title,
        tuple(sentences),
        tables=(TableView("Calibration per finding", _HEADER, rows),),
        figures=tuple(_figure(name, one) for name, one in findings.items() if one["reliability"]),
        legend=(
            "Reliability. Across: the mean score of a tenth of the films; up: the proportion of them with the finding, "
            "with its 95 % interval. Both run from 0 to the number given; calibrated scores lie on the diagonal. "
            "Calibration error: the distance from it, averaged over films; on few films it is never 0, so compare it "
            "with the column By chance, which calibrated scores would show on as many independent films. Brier skill: "
            "1 is perfect, 0 is what one same score for all films reaches. Slope: below 1 scores are too extreme, "
            "above 1 too timid."
        ),
    )


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _figure(name: str, finding: dict[str, Any]) -> FigureView:
    rows = finding["reliability"]
    ends = [(row["present"]["value"], row["present"]["low"], row["present"]["high"]) for row in rows]
    largest = max(
        max(row["mean_score"], *(end for end in three if end is not None))
        for row, three in zip(rows, ends, strict=True)
    )
    limit = max(0.1, math.ceil(10 * largest) / 10)
    points = [
        (row["mean_score"] / limit, value / limit, (value if low is None else low) / limit, (high or value) / limit)
        for row, (value, low, high) in zip(rows, ends, strict=True)
    ]
    pairs = ", ".join(f"{row['mean_score']:.2f}: {row['present']['value']:.2f}" for row in rows)
    return FigureView(
        title=words(name),
        value=decimal(finding["ece"]["value"]),
        small=f"0 to {limit:.1f}",
        label=f"Reliability of {words(name)}, mean score: proportion of films with the finding: {pairs}",
        points=tuple((100 * x, *(100 * (1 - y) for y in ups)) for x, *ups in points),
    )
