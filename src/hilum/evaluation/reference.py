"""The section on label noise: the same scores, and the labels themselves, against a second opinion."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from hilum.errors import PredictionsError
from hilum.evaluation.case import Case
from hilum.evaluation.inputs import EvaluationSet, Reference
from hilum.evaluation.views import (
    Cell,
    TableView,
    View,
    cell,
    count,
    decimal,
    interval,
    listed,
    plural,
    signed_interval,
    words,
)
from hilum.findings import COMPOSITES
from hilum.metrics.bootstrap import estimate_json
from hilum.metrics.influence import (
    Codes,
    against_zero,
    average,
    measured_per_finding,
    measured_rate,
    minus,
    patient_codes,
)

key = "reference"

PerFilm = Float64[np.ndarray, " films"]


def measure(case: Case) -> dict[str, Any]:
    """The scores against the reference's labels and the manifest's; empty without a reference."""
    if case.reference is None:
        return {}
    return reference_section(case.evaluated, case.reference)


def reference_section(evaluated: EvaluationSet, reference: Reference) -> dict[str, Any]:
    """AUROC of the scores against the reference's labels and the manifest's, and what the latter score themselves.

    All of a finding's numbers are of the same films: those whose label both know. A composite of findings takes the
    largest of their scores, and is present in the manifest if one of them is. In the form of report.json:

        file    the reference's name
        films, patients    evaluated films that it holds a label of
        not_compared: {NAME: why}    labels of the reference that nothing here stands for
        mean: {AUROCS}    over the findings that both define
        findings: {NAME: {made_of: [FINDING], films, patients, positives, positive_patients (reference),
            manifest_positives, manifest_positive_patients, AUROCS, labels: {sensitivity, specificity, ppv, npv, auroc:
            ESTIMATE, true_positives, false_positives, false_negatives, true_negatives}}}
        AUROCS: auroc (against the reference), manifest_auroc, difference (auroc minus manifest_auroc): ESTIMATE

    Raises:
        PredictionsError: if the reference holds none of the evaluated films, or nothing that was scored.
    """
    labels = reference.of(evaluated.truth["film"].tolist())
    parts = {name: (name,) if name in evaluated.findings else COMPOSITES.get(name, (name,)) for name in labels}
    not_compared = dict.fromkeys(reference.others, "no finding of the manifest stands for it")
    not_compared |= {
        name: f"no scores or labels of {', '.join(missing)}"
        for name, made_of in parts.items()
        if (missing := [finding for finding in made_of if finding not in evaluated.findings])
    }
    compared = {name: parts[name] for name in labels if name not in not_compared}
    if not compared:
        reasons = "; ".join(f"{name}: {why}" for name, why in not_compared.items())
        raise PredictionsError(
            f"reference must have labels of findings that were scored, got only others in {reference.path} "
            f"({reasons}). Score those findings, or add columns."
        )
    theirs = np.stack([labels[name] for name in compared], axis=1)
    scores, mined = np.empty(theirs.shape), np.empty(theirs.shape)
    for k, made_of in enumerate(compared.values()):
        scores[:, k], mined[:, k] = _composite(evaluated, made_of)
    unknown = np.isnan(theirs) | np.isnan(mined)
    theirs[unknown], mined[unknown] = np.nan, np.nan
    here = ~unknown.all(axis=1)
    if not here.any():
        raise PredictionsError(
            f"reference must know the labels of some evaluated films, got only unknown ones in {reference.path}. "
            "Fill its cells, or evaluate another split."
        )
    theirs, mined, scores, patients = theirs[here], mined[here], scores[here], evaluated.patients[here]
    by_theirs, _ = measured_per_finding(scores, theirs, patients)
    by_mined, _ = measured_per_finding(scores, mined, patients)
    of_labels, _ = measured_per_finding(np.nan_to_num(mined), theirs, patients)
    gaps = [minus(one, other) for one, other in zip(by_theirs, by_mined, strict=True)]
    both = [k for k, gap in enumerate(gaps) if not np.isnan(gap.value)]
    codes, _ = patient_codes(patients)
    return {
        "file": reference.path.name,
        "films": len(patients),
        "patients": len(set(patients.tolist())),
        "not_compared": not_compared,
        "mean": {
            "auroc": estimate_json(average([by_theirs[k] for k in both]).estimate),
            "manifest_auroc": estimate_json(average([by_mined[k] for k in both]).estimate),
            "difference": estimate_json(against_zero(average([gaps[k] for k in both])).estimate),
        },
        "findings": {
            name: {
                "made_of": list(made_of),
                "films": int((~np.isnan(theirs[:, k])).sum()),
                "patients": len(set(patients[~np.isnan(theirs[:, k])].tolist())),
                "positives": int((theirs[:, k] == 1).sum()),
                "positive_patients": len(set(patients[theirs[:, k] == 1].tolist())),
                "manifest_positives": int((mined[:, k] == 1).sum()),
                "manifest_positive_patients": len(set(patients[mined[:, k] == 1].tolist())),
                "auroc": estimate_json(by_theirs[k].estimate),
                "manifest_auroc": estimate_json(by_mined[k].estimate),
                "difference": estimate_json(against_zero(gaps[k]).estimate),
                "labels": {
                    **_label_rates(theirs[:, k], mined[:, k], codes),
                    "auroc": estimate_json(of_labels[k].estimate),
                },
            }
            for k, (name, made_of) in enumerate(compared.items())
        },
    }


def _composite(evaluated: EvaluationSet, made_of: tuple[str, ...]) -> tuple[PerFilm, PerFilm]:
    """The largest score, and whether any of the labels is present: unknown if none is and one is unknown."""
    places = [evaluated.findings.index(name) for name in made_of]
    labels = evaluated.labels[:, places]
    mined = np.where((labels == 1).any(axis=1), 1.0, np.where(np.isnan(labels).any(axis=1), np.nan, 0.0))
    return evaluated.numbers[:, places].max(axis=1), mined


def _label_rates(theirs: PerFilm, mined: PerFilm, codes: Codes) -> dict[str, Any]:
    """What the manifest's labels reach as a test for the reference's."""
    yes, no, called, not_called = theirs == 1, theirs == 0, mined == 1, mined == 0
    return {
        "true_positives": int((yes & called).sum()),
        "false_positives": int((no & called).sum()),
        "false_negatives": int((yes & not_called).sum()),
        "true_negatives": int((no & not_called).sum()),
        **{
            name: estimate_json(measured_rate(what.astype(np.float64), among, codes, whose).estimate)
            for name, what, among, whose in (
                ("sensitivity", called, yes, "with the finding"),
                ("specificity", not_called, no, "without the finding"),
                ("ppv", yes, called, "called"),
                ("npv", no, not_called, "not called"),
            )
        },
    }


_HEADER = (
    "Finding",
    "Films",
    "With it, by the reference",
    "With it, by the manifest",
    "AUROC by the reference",
    "AUROC by the manifest",
    "Difference",
)
_PARTS = {
    "sensitivity": ("true_positives", "false_negatives"),
    "specificity": ("true_negatives", "false_positives"),
    "ppv": ("true_positives", "false_positives"),
    "npv": ("true_negatives", "false_negatives"),
}
"""Each rate's films, and those that make them whole."""

_LABELS_HEADER = ("Finding", "Sensitivity", "Specificity", "PPV", "NPV", "AUROC")


def view(report: dict[str, Any]) -> View | None:
    """The scores against both labels, and the manifest's labels against the reference."""
    section = report["reference"]
    if not section:
        return None
    mean, labels = section["mean"], [one["labels"]["auroc"]["value"] for one in section["findings"].values()]
    sentences = [
        f"{section['file']} holds labels of {plural(section['films'], 'evaluated film')} of "
        f"{plural(section['patients'], 'patient')}. On these films alone, the same scores are evaluated against them "
        "and against the manifest's labels."
    ]
    if mean["difference"]["value"] is not None:
        sentences.append(
            f"Mean AUROC by the reference: {decimal(mean['auroc']['value'])} ({interval(mean['auroc'])}), by the "
            f"manifest: {decimal(mean['manifest_auroc']['value'])} ({interval(mean['manifest_auroc'])}), difference "
            f"{mean['difference']['value']:+.3f} ({signed_interval(mean['difference'])})."
        )
    known = [value for value in labels if value is not None]
    if known:
        sentences.append(
            "Taken as calls, the manifest's own labels reach an AUROC of "
            f"{decimal(sum(known) / len(known))} by the reference, on average over {plural(len(known), 'finding')}."
        )
    sentences += [f"Not compared: {words(name)} ({why})." for name, why in section["not_compared"].items()]
    rows = tuple(
        (
            Cell(words(name)),
            Cell(count(one["films"]), plural(one["patients"], "patient")),
            _with_it(one, "positives", "positive_patients"),
            _with_it(one, "manifest_positives", "manifest_positive_patients"),
            cell(one["auroc"]),
            cell(one["manifest_auroc"]),
            cell(one["difference"], signed=True),
        )
        for name, one in section["findings"].items()
    )
    by_labels = tuple(
        (Cell(words(name)), *(_rate(one["labels"], measure) for measure in _PARTS), cell(one["labels"]["auroc"]))
        for name, one in section["findings"].items()
    )
    composites = [
        f"{name} is any of {listed(one['made_of'])}, scored by the largest of their scores"
        for name, one in section["findings"].items()
        if len(one["made_of"]) > 1
    ]
    return View(
        "reference",
        "Label noise: a second opinion on the same films",
        tuple(sentences),
        tables=(
            TableView("The scores, by both labels", _HEADER, rows),
            TableView("The manifest's labels, by the reference", _LABELS_HEADER, by_labels),
        ),
        legend=". ".join([*composites, "PPV and NPV hold for the prevalence in these films."]),
    )


def reference_table(section: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows for the command line."""
    rows = [
        [
            words(name),
            f"{decimal(one['auroc']['value'])} [{interval(one['auroc'])}]",
            decimal(one["manifest_auroc"]["value"]),
            decimal(one["labels"]["auroc"]["value"]),
            f"{one['positives']:,} of {one['films']:,}",
        ]
        for name, one in section["findings"].items()
    ]
    title = f"By {section['file']}: {section['films']:,} of these films"
    return title, ["finding", "AUROC by it [95 %]", "by manifest", "labels by it", "positives"], rows


def _with_it(finding: dict[str, Any], films: str, patients: str) -> Cell:
    """Films with a finding, and their patients where the report counted them."""
    return Cell(count(finding[films]), plural(finding[patients], "patient") if patients in finding else "")


def _rate(labels: dict[str, Any], measure: str) -> Cell:
    """A rate with its interval and the films behind it."""
    part, other = (labels[name] for name in _PARTS[measure])
    whole = part + other
    shown = cell(labels[measure])
    return Cell(shown.text, f"{shown.small}, {count(part)} of {count(whole)}") if whole else shown
