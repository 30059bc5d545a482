"""The section on controls that see no pixel: what patient identity, or view, age and sex, reach on the same films."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hilum.evaluation.case import Case
from hilum.evaluation.views import (
    Cell,
    TableView,
    View,
    cell,
    decimal,
    interval,
    positives_cell,
    signed_interval,
    words,
)
from hilum.metrics.bootstrap import estimate_json
from hilum.metrics.controls import Control, Records, run_controls
from hilum.metrics.influence import against_zero, average

key = "controls"

CONTROLS = {
    "identity": ("Patient identity", "the labels of the same patient's training films"),
    "view_age_sex": ("View, age, sex", "the view and the patient's age and sex"),
}
"""What each control that sees no pixel is called, and what it knows instead."""


def measure(case: Case) -> dict[str, Any]:
    """Each control beside the system, on the same films; empty where no patient can be on both sides.

    In the form of report.json: {CONTROL: {mean: {auroc, difference: ESTIMATE (system minus control, paired, over the
    findings that both define)}, findings: {FINDING: {auroc}}, undefined_findings}}.
    """
    table = case.films.certain
    training = table[(table["split"] == "train") & table["view"].isin(case.films.views)]
    if case.split == "train" or not len(training):
        return {}
    leaks = case.evaluated.truth["patient"].isin(set(training["patient"])).any()
    if not leaks and case.films.notes.get("protocol") != "image":
        return {}
    findings = case.evaluated.findings
    learned_from, measured_on = (_records(films, findings) for films in (training, case.evaluated.truth))
    found = run_controls(learned_from, measured_on, case.evaluated.numbers)
    return {name: _control_json(control, findings) for name, control in found.items()}


def _control_json(control: Control, findings: Sequence[str]) -> dict[str, Any]:
    found = {name: auroc.estimate for name, auroc in zip(findings, control.auroc, strict=True)}
    return {
        "mean": {
            "auroc": estimate_json(average(control.auroc).estimate),
            "difference": estimate_json(against_zero(average(control.ahead)).estimate),
        },
        "findings": {name: {"auroc": estimate_json(auroc)} for name, auroc in found.items()},
        "undefined_findings": [name for name, auroc in found.items() if math.isnan(auroc.value)],
    }


def _records(table: pd.DataFrame, findings: Sequence[str]) -> Records:
    """What a manifest's rows say about their films, for the controls."""
    patients, views, sexes = (table[name].to_numpy(dtype=str) for name in ("patient", "view", "sex"))
    labels, ages = table[list(findings)].to_numpy(dtype=np.float64), table["age"].to_numpy(np.float64)
    return Records(labels, patients, views, ages, sexes)


def view(report: dict[str, Any]) -> View | None:
    """What the controls reach, a sentence each, and a table per finding."""
    controls = report["controls"]
    if not controls:
        return None
    rows = [
        (
            Cell("Mean"),
            cell(report["mean"]["auroc"]),
            *(cell(one["mean"]["auroc"]) for one in controls.values()),
            Cell(""),
        )
    ]
    rows += [
        (
            Cell(words(name)),
            cell(finding["auroc"]),
            *(cell(control["findings"][name]["auroc"]) for control in controls.values()),
            positives_cell(finding),
        )
        for name, finding in report["findings"].items()
    ]
    header = ("AUROC", report["system"], *(CONTROLS[name][0] for name in controls), "With the finding")
    return View(
        "controls",
        "What can be had without pixels",
        (
            "Controls that see no image were evaluated on the same films. What a system does not reach beyond them, "
            "it need not have learned from the films.",
            *control_sentences(report),
        ),
        tables=(TableView("AUROC of the controls per finding", header, tuple(rows)),),
        legend=(
            "Controls are learned from the training films and evaluated on the same films as the system. "
            "Patient identity: the mean label of the patient's training films and one more film of the "
            "training prevalence. View, age, sex: a logistic regression per finding. A finding is undefined for a "
            "control whose training labels are of one class. Means are over defined findings; differences are over "
            "the findings that both define."
        ),
        contents="Without pixels",
    )


def control_sentences(report: dict[str, Any]) -> list[str]:
    """What the controls reach and where the system stands, a sentence for each control.

    Args:
        report: with `system` and `controls` of a report.json.
    """
    sentences = []
    for name, control in report["controls"].items():
        auroc, difference, knows = control["mean"]["auroc"], control["mean"]["difference"], CONTROLS[name][1]
        if auroc["value"] is None:
            sentences.append(f"A control that knows only {knows} could not be evaluated: no finding defines it.")
            continue
        reached = f"reaches a mean AUROC of {decimal(auroc['value'])} ({interval(auroc)})"
        sentence = f"A control that sees no pixel and knows only {knows} {reached}"
        if difference["value"] is None:
            sentences.append(f"{sentence}; it has no defined finding in common with {report['system']}.")
            continue
        above = f"{abs(difference['value']):.3f} {'above' if difference['value'] >= 0 else 'below'} it"
        sentences.append(f"{sentence}; {report['system']} lies {above} ({signed_interval(difference)}).")
    return sentences
