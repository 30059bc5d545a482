"""The section on label noise: the same scores, and the labels themselves, against a second opinion."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

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
from hilum.metrics.bootstrap import bootstrap, estimate, estimate_json, macro_mean, resampled_sums, share
from hilum.metrics.ranking import auroc_per_finding

key = "reference"

PerFilm = Float64[np.ndarray, " films"]

_RATES = {"sensitivity": (0, 2), "specificity": (3, 1), "ppv": (0, 1), "npv": (3, 2)}
"""Each rate's part, and what makes it whole with it: of true and false positives, false and true negatives."""


def measure(case: Case) -> dict[str, Any]:
    """The scores against the reference's labels and the manifest's; empty without a reference."""
    if case.reference is None:
        return {}
    return reference_section(case.evaluated, case.reference, draws=case.draws, seed=case.seed)


def reference_section(evaluated: EvaluationSet, reference: Reference, *, draws: int, seed: int) -> dict[str, Any]:
    """AUROC of the scores against the reference's labels and the manifest's, and what the latter score themselves.

    All of a finding's numbers are of the same films: those whose label both know. A composite of findings takes the
    largest of their scores, and is present in the manifest if one of them is. In the form of report.json:

        file    the reference's name
        films, patients    evaluated films that it holds a label of
        not_compared: {NAME: why}    labels of the reference that nothing here stands for
        mean: {AUROCS}    over the findings that both define
        findings: {NAME: {made_of: [FINDING], films, patients, positives (reference), manifest_positives, AUROCS,
            labels: {sensitivity, specificity, ppv, npv, auroc: ESTIMATE, true_positives, false_positives,
            false_negatives, true_negatives}}}
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
    three = np.hstack([scores, scores, np.nan_to_num(mined)]), np.hstack([theirs, mined, theirs])
    values = auroc_per_finding(*three)
    drawn = bootstrap(*three, patients, draws=draws, seed=seed).auroc
    if len(set(patients.tolist())) < 2:
        drawn[:] = np.nan
    value, per_draw = values.reshape(3, -1), drawn.reshape(len(drawn), 3, -1)
    gap, gap_per_draw = value[0] - value[1], per_draw[:, 0] - per_draw[:, 1]
    both = ~np.isnan(gap)
    return {
        "file": reference.path.name,
        "films": len(patients),
        "patients": len(set(patients.tolist())),
        "not_compared": not_compared,
        "mean": {
            "auroc": estimate_json(estimate(*macro_mean(value[0][both], per_draw[:, 0][:, both]))),
            "manifest_auroc": estimate_json(estimate(*macro_mean(value[1][both], per_draw[:, 1][:, both]))),
            "difference": estimate_json(estimate(*macro_mean(gap, gap_per_draw))),
        },
        "findings": {
            name: {
                "made_of": list(made_of),
                "films": int((~np.isnan(theirs[:, k])).sum()),
                "patients": len(set(patients[~np.isnan(theirs[:, k])].tolist())),
                "positives": int((theirs[:, k] == 1).sum()),
                "manifest_positives": int((mined[:, k] == 1).sum()),
                "auroc": estimate_json(estimate(float(value[0, k]), per_draw[:, 0, k])),
                "manifest_auroc": estimate_json(estimate(float(value[1, k]), per_draw[:, 1, k])),
                "difference": estimate_json(estimate(float(gap[k]), gap_per_draw[:, k])),
                "labels": {
                    **_label_rates(theirs[:, k], mined[:, k], patients, draws=draws, seed=seed),
                    "auroc": estimate_json(estimate(float(value[2, k]), per_draw[:, 2, k])),
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


def _label_rates(
    theirs: PerFilm, mined: PerFilm, patients: Shaped[np.ndarray, " films"], *, draws: int, seed: int
) -> dict[str, Any]:
    """What the manifest's labels reach as a test for the reference's."""
    yes, called = theirs == 1, mined == 1
    no, not_called = theirs == 0, mined == 0
    groups = [yes & called, no & called, yes & not_called, no & not_called]
    counts = [int(group.sum()) for group in groups]
    drawn = resampled_sums(np.stack(groups, axis=1).astype(np.float64), patients, draws=draws, seed=seed).T
    names = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    return {
        **dict(zip(names, counts, strict=True)),
        **{
            name: estimate_json(
                share(
                    float(counts[part]),
                    float(counts[part] + counts[other]),
                    drawn[part],
                    drawn[part] + drawn[other],
                    patients=len(set(patients[groups[part] | groups[other]].tolist())),
                )
            )
            for name, (part, other) in _RATES.items()
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
            Cell(count(one["positives"])),
            Cell(count(one["manifest_positives"])),
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


def _rate(labels: dict[str, Any], measure: str) -> Cell:
    """A rate with its interval and the films behind it."""
    part, other = (labels[name] for name in _PARTS[measure])
    whole = part + other
    shown = cell(labels[measure])
    return Cell(shown.text, f"{shown.small}, {count(part)} of {count(whole)}") if whole else shown
