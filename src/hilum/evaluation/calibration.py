"""The section on calibration: whether scores are probabilities."""

import math
from typing import TYPE_CHECKING, Any

from hilum.evaluation.case import Case
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.views import (
    Cell,
    FigureView,
    TableView,
    View,
    axis,
    cell,
    decimal,
    interval,
    listed,
    positives_cell,
    words,
)
from hilum.metrics.bootstrap import Estimate, estimate_json
from hilum.metrics.calibration import BINS, Bin, Calibration, mean_error, measured_calibration
from hilum.metrics.influence import average

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle

key = "calibration"

_MEANS = ("ece", "brier")


def measure(case: Case) -> dict[str, Any]:
    """Calibration error, Brier score and reliability table per finding, in the form of report.json.

    `undefined` says why there is none; it is empty if there is. `how` says how the scores were calibrated, if that is
    known.
    """
    how = _how_calibrated(case.model.bundle, case) if case.model else ""
    return calibration_section(case.evaluated, seed=case.seed) | {"how": how}


def _how_calibrated(bundle: "Bundle", case: Case) -> str:
    used = bundle.calibration_set
    if used is None:
        return "This model's scores were never calibrated."
    text = f"They were calibrated ({used.method}) on {used.films:,} validation films of {used.patients:,} patients."
    if used.fingerprint == case.films.select(case.split).fingerprint():
        return f"{text} These are the films evaluated here, so their calibration is flattered."
    return text


def calibration_section(evaluated: EvaluationSet, *, seed: int) -> dict[str, Any]:
    """What `measure` gives, from an evaluation set alone."""
    numbers, labels, patients = evaluated.numbers, evaluated.labels, evaluated.patients
    if (numbers < 0).any() or (numbers > 1).any():
        nothing = estimate_json(Estimate(float("nan"), float("nan"), float("nan"), 0))
        return {
            "undefined": "Scores outside [0, 1] are no probabilities, so their calibration cannot be evaluated.",
            "how": "",
            "bins": BINS,
            "mean": dict.fromkeys(_MEANS, nothing),
            "findings": {},
        }
    found = {
        name: measured_calibration(numbers[:, k], labels[:, k], patients, seed=seed)
        for k, name in enumerate(evaluated.findings)
    }
    return {
        "undefined": "",
        "how": "",
        "bins": BINS,
        "mean": {
            "ece": estimate_json(mean_error([*found.values()], seed=seed)),
            "brier": estimate_json(average([one.brier for one in found.values()]).estimate),
        },
        "findings": {name: _finding(one) for name, one in found.items()},
    }


def _finding(found: Calibration) -> dict[str, Any]:
    measured = {"brier": found.brier, "brier_skill": found.brier_skill, "slope": found.slope}
    return {
        **{name: estimate_json(getattr(found, name)) for name in ("ece", "ece_by_chance", "excess")},
        **{name: estimate_json(one.estimate) for name, one in measured.items()},
        "reliability": [_row(one) for one in found.bins],
    }


def _row(one: Bin) -> dict[str, Any]:
    return {**one._asdict(), "present": estimate_json(one.present.estimate)}


_HEADER = (
    "Finding",
    "Calibration error",
    "By chance",
    "Brier score",
    "Brier skill",
    "Mean score minus proportion",
    "Slope",
    "With the finding",
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
    off = [name for name, one in findings.items() if _is_off(one)]
    sentences.append(
        f"Further off than chance explains: {listed(off)}."
        if off
        else "No finding's scores are further off than chance explains on so few films."
    )
    untested = [name for name, one in findings.items() if one["ece"]["low"] is None]
    if untested:
        sentences.append(f"Too few patients to say that of: {listed(untested)}.")
    rows = tuple(
        (
            Cell(words(name)),
            cell(one["ece"]),
            cell(one["ece_by_chance"]),
            cell(one["brier"]),
            cell(one["brier_skill"]),
            cell(one["excess"], signed=True),
            cell(one["slope"]),
            positives_cell(report["findings"][name]),
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
            "with its 95 % interval; calibrated scores lie on the diagonal. "
            "Calibration error: the distance from it, averaged over films; on few films it is never 0, so compare it "
            "with the column By chance, which calibrated scores would show on as many independent films. Its interval "
            "is for all such patients, whose error is smaller and may be 0. Brier skill: "
            "1 is perfect, 0 is what one same score for all films reaches. Slope: below 1 scores are too extreme, "
            "above 1 too timid."
        ),
    )


def _is_off(finding: dict[str, Any]) -> bool:
    """Whether neither these patients' own spread nor independent films explain the calibration error."""
    error, by_chance = finding["ece"], finding["ece_by_chance"]["high"]
    return None not in (error["low"], by_chance) and error["low"] > 0 and error["value"] > by_chance


def _figure(name: str, finding: dict[str, Any]) -> FigureView:
    rows = finding["reliability"]
    ends = [(row["present"]["value"], row["present"]["low"], row["present"]["high"]) for row in rows]
    largest = max(
        max(row["mean_score"], *(end for end in three if end is not None))
        for row, three in zip(rows, ends, strict=True)
    )
    limit = max(0.1, math.ceil(10 * largest) / 10)
    points = [
        (
            row["mean_score"] / limit,
            value / limit,
            (value if low is None else low) / limit,
            (value if high is None else high) / limit,
        )
        for row, (value, low, high) in zip(rows, ends, strict=True)
    ]
    pairs = ", ".join(f"{row['mean_score']:.2f}: {row['present']['value']:.2f}" for row in rows)
    return FigureView(
        title=words(name),
        value=decimal(finding["ece"]["value"]),
        small="calibration error",
        across=axis("mean score", 0, limit),
        up=axis("proportion with the finding", 0, limit, upright=True),
        label=f"Reliability of {words(name)}, mean score: proportion of films with the finding: {pairs}",
        points=tuple((100 * x, *(100 * (1 - y) for y in ups)) for x, *ups in points),
    )
