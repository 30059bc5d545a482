"""The section on runs: what one training reaches, where several were evaluated as seeds or as folds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum.evaluation.case import Case
from hilum.evaluation.views import Cell, TableView, View, cell, decimal, forest, plural, positives_cell, words
from hilum.metrics.bootstrap import estimate_json, number_json
from hilum.metrics.influence import Measured, against_zero, average, difference, measured_per_finding, minus
from hilum.metrics.runs import OverRuns, mean_over_folds, mean_over_seeds, over_folds, over_seeds

key = "runs"

_MEASURES = ("auroc", "average_precision")


def measure(case: Case) -> dict[str, Any] | None:
    """Several trainings as a random effect beside patients, in the form of report.json; None for one.

        kind    seeds, all on the same films, or folds, each on films of its own
        runs: [{name, films, patients, auroc: ESTIMATE (its mean), difference: ESTIMATE (minus the mean of all)}]
        mean: MEASURES, findings: {FINDING: MEASURES}
        MEASURES: {auroc, average_precision: {ESTIMATE, by_run: [value], between}}

    ESTIMATE's interval is for the mean of all such trainings on all such patients. `between` is the standard deviation
    of the trainings' true values, null where there is none.
    """
    if not case.runs:
        return None
    evaluated, folded = case.evaluated, case.folded
    labels, names, whole = evaluated.labels, evaluated.findings, evaluated.patients
    by_run: list[tuple[tuple[Measured, ...], tuple[Measured, ...]]] = []
    for run in case.runs:
        scored = ~np.isnan(run.numbers).any(axis=1)
        own = np.where(scored[:, np.newaxis], labels, np.nan)
        by_run.append(measured_per_finding(np.where(np.isnan(run.numbers), 0.0, run.numbers), own, whole))
    over = over_folds if folded else over_seeds
    findings = {
        name: {measure: over([one[which][k] for one in by_run]) for which, measure in enumerate(_MEASURES)}
        for k, name in enumerate(names)
    }
    means = {
        measure: mean_over_folds([one[measure] for one in findings.values()])
        if folded
        else mean_over_seeds([one[which] for one in by_run])
        for which, measure in enumerate(_MEASURES)
    }
    return {
        "kind": "folds" if folded else "seeds",
        "runs": [
            {
                "name": run.name,
                "films": int((~np.isnan(run.numbers).any(axis=1)).sum()),
                "patients": len(set(whole[~np.isnan(run.numbers).any(axis=1)].tolist())),
                **_mean_of(one[0], [other[0] for other in by_run], folded=folded),
            }
            for run, one in zip(case.runs, by_run, strict=True)
        ],
        "mean": {measure: _json(one) for measure, one in means.items()},
        "findings": {
            name: {measure: _json(one) for measure, one in measures.items()} for name, measures in findings.items()
        },
    }


def _mean_of(own: Sequence[Measured], others: Sequence[Sequence[Measured]], *, folded: bool) -> dict[str, Any]:
    """A run's mean AUROC, and how far it lies from that of the other runs."""
    mean, rest = average(own), [average(one) for one in others if one is not own]
    if not rest or any(math.isnan(one.value) for one in (mean, *rest)):
        gap = difference(mean, mean)
    elif folded:
        gap = difference(mean, over_folds(rest).mean)
    else:
        gained = [minus(one, other) for one, other in zip(own, _mean_measures(others, own), strict=True)]
        gap = against_zero(average(gained))
    return {"auroc": estimate_json(mean.estimate), "difference": estimate_json(gap.estimate)}


def _mean_measures(runs: Sequence[Sequence[Measured]], but: Sequence[Measured]) -> list[Measured]:
    others = [one for one in runs if one is not but]
    return [over_seeds([one[k] for one in others]).mean for k in range(len(but))]


def _json(one: OverRuns) -> dict[str, Any]:
    return {
        **estimate_json(one.mean.estimate),
        "by_run": [number_json(value) for value in one.by_run],
        "between": number_json(one.between),
    }


def view(report: dict[str, Any]) -> View | None:
    """What one training reaches, run by run and finding by finding; None for a single run."""
    section = report.get("runs")
    if not section:
        return None
    runs, mean, folded = section["runs"], section["mean"]["auroc"], section["kind"] == "folds"
    what = "fold" if folded else "run"
    sentences = [
        f"{plural(len(runs), what)}. Mean AUROC of one training: {cell(mean).text} ({cell(mean).small}), for all such "
        "trainings on all such patients.",
        "All other sections are of the films' out-of-fold scores: each film was scored by the training that saw no "
        "film of its patient."
        if folded
        else "All other sections are of the mean of the runs' scores, which is a system of its own and often ranks "
        "better than one training.",
    ]
    if mean["between"] is not None:
        sentences.append(
            f"The trainings' own mean AUROCs spread with a standard deviation of {mean['between']:.4f} beyond what "
            "their patients explain."
        )
    rows = [
        (
            Cell(words(name)),
            cell(one["auroc"]),
            Cell("" if one["auroc"]["between"] is None else f"{one['auroc']['between']:.4f}"),
            Cell(", ".join(decimal(value) for value in one["auroc"]["by_run"])),
            cell(one["average_precision"]),
            positives_cell(report["findings"][name]),
        )
        for name, one in section["findings"].items()
    ]
    header = ("Finding", "AUROC of one training", "Spread", f"By {what}", "Average precision", "With the finding")
    plot = forest(
        f"Mean AUROC of each {what} minus that of the others",
        [(Cell(run["name"], plural(run["patients"], "patient")), run["difference"]) for run in runs],
        nothing="undefined",
        first=what.capitalize(),
    )
    return View(
        "runs",
        "Runs: what one training reaches",
        tuple(sentences),
        tables=(TableView("AUROC and average precision over the runs", header, tuple(rows)),),
        forests=(plot,) if plot else (),
        legend=(
            "Intervals take trainings and patients as drawn: they are for the mean of all such trainings. Spread: the "
            "standard deviation of the trainings' true values, what their patients explain taken off. "
            + (
                "Trainings of a cross-validation share most of their films, so that their spread understates that of "
                "trainings on films of others."
                if folded
                else "Few runs say little of it: with three, the interval of a spread reaches from half to six times."
            )
        ),
        contents="Runs",
    )
