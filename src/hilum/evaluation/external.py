"""The section on external validation: what changed since an earlier report of the same model on other films."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum.errors import HilumError
from hilum.evaluation.case import Case
from hilum.evaluation.inputs import EvaluationSet, StoredReport
from hilum.evaluation.operating_points import operating_section
from hilum.evaluation.views import Cell, TableView, View, decimal, listed, plural, shown_p, signed_interval, words
from hilum.metrics.bootstrap import estimate_json, estimate_of, number_json
from hilum.metrics.compare import holm, independent_difference
from hilum.metrics.influence import average, measured_per_finding, measured_rate, patient_codes
from hilum.metrics.operating_points import point_label
from hilum.metrics.thresholds import Threshold
from hilum.model.thresholds import OperatingPoints

key = "shift"

CALIBRATION = ("ece", "brier", "excess", "slope")
RATES = ("sensitivity", "specificity", "ppv", "npv", "alarms_per_100")

SAME_SCORE = 1e-3
"""Closer scores of films of one name, finding by finding, are scores of one film by one model."""


def measure(case: Case) -> dict[str, Any]:
    """What changed since the earlier report; empty without one."""
    if case.earlier is None:
        return {}
    return shift_section(case.report, case.evaluated, case.earlier, weights=case.weights)


def shift_section(
    here: dict[str, Any], evaluated: EvaluationSet, there: StoredReport, *, weights: str | None
) -> dict[str, Any]:
    """What changed since another report of the same model, on other patients.

    Differences are here minus there. Patients are others, so nothing is paired: an interval comes from the two values'
    own intervals in the two reports. In the form of report.json:

        report    the other report's {system, folder, protocol, split, films, patients, films_fingerprint}
        same_model    true if the weights are the same, null if that cannot be seen
        notes: [sentence]    what a reader should know about the comparison
        mean: {auroc, findings: [FINDING]}, calibration: {ece, brier}    CHANGES, over findings that both define
        findings: {FINDING: {auroc, prevalence, ece, brier, excess, slope: CHANGE}}
        with_finding: {FINDING: {positives_there, positive_patients_there, positives_here, positive_patients_here}}
        operating_points: {POINT: {FINDING: {threshold, sensitivity, specificity, ppv, npv, alarms_per_100: CHANGE}}}
            at the other report's thresholds; empty if they are not these scores'
        CHANGE: {there, here, difference: ESTIMATE, p_value, p_value_holm (for the findings together; null for means)}

    Args:
        here: this report's report.json, as far as its sections on calibration and operating points.
        evaluated: the films and scores of this report.
        there: the other report.
        weights: hash of the model's weights, None for a table of scores.

    Raises:
        HilumError: if the other report is of another model, of the same films, or shares no finding.
    """
    before = there.content
    names = [name for name in here["findings"] if name in before["findings"]]
    _refuse_others(here, evaluated, there, names, weights)
    defined = [
        name
        for name in names
        if all(report["findings"][name]["auroc"]["value"] is not None for report in (here, before))
    ]
    prevalences = [_prevalences(one, names) for one in (there.evaluated, evaluated)]
    findings: dict[str, dict[str, Any]] = {
        name: {
            "auroc": _change(before["findings"][name]["auroc"], here["findings"][name]["auroc"]),
            "prevalence": _change(prevalences[0][name], prevalences[1][name]),
        }
        for name in names
    }
    both_calibrated = not (before["calibration"]["undefined"] or here["calibration"]["undefined"])
    if both_calibrated:
        for name, one in findings.items():
            tables = (report["calibration"]["findings"][name] for report in (before, here))
            was, now = tables
            one |= {measure: _change(was[measure], now[measure]) for measure in CALIBRATION}
    _correct(list(findings.values()))
    points, point_notes = _points(here, evaluated, before)
    means = [_mean_auroc(*one, defined) for one in ((before, there.evaluated), (here, evaluated))]
    same_model = _same_model(weights, before)
    return {
        "report": {
            "folder": str(there.folder),
            **{key: before[key] for key in ("system", "protocol", "split", "films", "films_fingerprint")},
            "patients": len(set(there.evaluated.patients.tolist())),
        },
        "same_model": same_model,
        "notes": [*_notes(here, evaluated, there, names, same_model), *point_notes],
        "mean": {"auroc": _change(*means), "findings": defined},
        "calibration": _calibration_means(before, here) if both_calibrated else {},
        "findings": findings,
        "with_finding": {name: _positives(name, there.evaluated, evaluated) for name in names},
        "operating_points": points,
    }


def check_report(there: StoredReport, *, films_fingerprint: str, split: str, weights: str | None) -> None:
    """Refuse what can be seen to be no external validation before films are scored.

    Args:
        films_fingerprint, split: of the films to be evaluated.
        weights: hash of the model's weights, None for a table of scores.

    Raises:
        HilumError: if the other report is of another model, or of the same split of the same manifest.
    """
    before = there.content
    lacking = [key for key in ("calibration", "operating_points", "mean") if key not in before]
    if lacking:
        raise HilumError(
            f"report.json must have {lacking[0]!r}, got none in {there.folder}. Make the report again with "
            "this version."
        )
    if _same_model(weights, before) is False:
        raise HilumError(
            f"reports must be of one model, got weights of another one in {there.folder} ({before['system']}). "
            "Evaluate this model on those films first, or compare models on the same films with: "
            "hilum compare REPORT REPORT"
        )
    if (films_fingerprint, split) == (before["films_fingerprint"], before["split"]):
        raise _same_films_error("the same split of the same manifest", there)


def _refuse_others(
    here: dict[str, Any], evaluated: EvaluationSet, there: StoredReport, names: Sequence[str], weights: str | None
) -> None:
    fingerprint, split = here["films_fingerprint"], here["split"]
    check_report(there, films_fingerprint=fingerprint, split=split, weights=weights)
    if not names:
        raise HilumError(
            f"reports must have a finding in common, got {', '.join(here['findings'])} here and "
            f"{', '.join(there.content['findings'])} in {there.folder}. Score the same findings."
        )
    shared = _same_films(evaluated, there.evaluated, names)
    if shared:
        raise _same_films_error(f"{len(shared):,} films of both evaluation sets", there)


def _same_films_error(got: str, there: StoredReport) -> HilumError:
    return HilumError(
        f"reports must be of different films, got {got} in {there.folder}. Set reports of the same films against "
        "each other with: hilum compare REPORT REPORT"
    )


def _same_films(evaluated: EvaluationSet, other: EvaluationSet, names: Sequence[str]) -> list[str]:
    """Films that bear one name in both, if most of these have the same scores: names alone may be other hospitals'."""
    columns = ["film", *names]
    both = evaluated.scores[columns].merge(other.scores[columns], on="film", suffixes=("", " there"))
    apart = np.abs(both[list(names)].to_numpy() - both[[f"{name} there" for name in names]].to_numpy())
    same = (apart <= SAME_SCORE).all(axis=1)
    constant = all(np.ptp(evaluated.scores[name]) <= SAME_SCORE for name in names)
    return [] if constant or 2 * same.sum() < len(both) else both["film"][same].tolist()


def _weights(report: dict[str, Any]) -> str | None:
    weights: str | None = (report.get("model") or {}).get("weights_sha256")
    return weights


def _same_model(weights: str | None, before: dict[str, Any]) -> bool | None:
    others = _weights(before)
    return None if weights is None or others is None else weights == others


def _notes(
    here: dict[str, Any], evaluated: EvaluationSet, there: StoredReport, names: Sequence[str], same_model: bool | None
) -> list[str]:
    notes = []
    if same_model is None:
        notes.append(
            "Whether both reports are of one model cannot be seen, because one of them evaluated a table of scores."
        )
    people = set(evaluated.patients.tolist()) & set(there.evaluated.patients.tolist())
    if people and here["films_fingerprint"] == there.content["films_fingerprint"]:
        notes.append(
            f"{len(people):,} patients have films in both reports, so they are not independent, and the intervals of "
            "the differences are only rough."
        )
    others = [name for name in {**here["findings"], **there.content["findings"]} if name not in names]
    if others:
        notes.append(f"Evaluated in one of the two reports only, so not compared: {', '.join(others)}.")
    return notes


def _mean_auroc(report: dict[str, Any], evaluated: EvaluationSet, names: Sequence[str]) -> dict[str, Any]:
    """The report's own mean if it is over these findings, else one over them."""
    own = [name for name, one in report["findings"].items() if one["auroc"]["value"] is not None]
    if own == list(names):
        mean: dict[str, Any] = report["mean"]["auroc"]
        return mean
    places = [evaluated.findings.index(name) for name in names]
    aurocs, _ = measured_per_finding(evaluated.numbers[:, places], evaluated.labels[:, places], evaluated.patients)
    return estimate_json(average(aurocs).estimate)


def _prevalences(evaluated: EvaluationSet, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The proportion of films with each finding among those whose label is known."""
    codes, _ = patient_codes(evaluated.patients)
    found = {}
    for name in names:
        labels = evaluated.labels[:, evaluated.findings.index(name)]
        rate = measured_rate((labels == 1).astype(np.float64), ~np.isnan(labels), codes, "")
        found[name] = estimate_json(rate.estimate)
    return found


def _positives(name: str, there: EvaluationSet, here: EvaluationSet) -> dict[str, int]:
    """Films and patients with a finding in both reports."""
    counts = {}
    for place, evaluated in (("there", there), ("here", here)):
        present = evaluated.labels[:, evaluated.findings.index(name)] == 1
        counts[f"positives_{place}"] = int(present.sum())
        counts[f"positive_patients_{place}"] = len(set(evaluated.patients[present]))
    return counts


def _calibration_means(before: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """Changes of the reports' own means, where both are over the same findings."""
    if list(before["calibration"]["findings"]) != list(here["calibration"]["findings"]):
        return {}
    was, now = before["calibration"]["mean"], here["calibration"]["mean"]
    return {measure: _change(was[measure], now[measure]) for measure in ("ece", "brier")}


def _points(here: dict[str, Any], evaluated: EvaluationSet, before: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the other report's thresholds do here, and why they do nothing where that is so."""
    frozen = before["operating_points"]
    if not frozen:
        return {}, ["The other report has no thresholds, so no calls are compared."]
    own = here["operating_points"]
    if own is None:
        points = {
            name: {finding: _threshold(point[finding]) if finding in point else None for finding in evaluated.findings}
            for name, point in frozen.items()
        }
        now = operating_section(evaluated, OperatingPoints("", points), prevalence={})
    else:
        now = own
    changes: dict[str, dict[str, Any]] = {}
    moved = []
    for name, point in frozen.items():
        for finding, was in point.items():
            one = now.get(name, {}).get(finding)
            if one is None:
                continue
            if one["threshold"] != was["threshold"]:
                moved.append(finding)
                continue
            changes.setdefault(name, {})[finding] = {
                "threshold": was["threshold"],
                **{rate: _change(was[rate], one[rate]) for rate in RATES},
            }
    for point in changes.values():
        _correct(list(point.values()))
    if moved:
        return changes, ["Thresholds were chosen anew since the other report, so calls at them are not compared."]
    return changes, []


def _threshold(one: dict[str, Any]) -> Threshold:
    return Threshold(one["threshold"], one["unsure_from"], one["unsure_to"], one.get("unsure_why", ""))


def _change(was: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    difference, p = independent_difference(estimate_of(was), estimate_of(now))
    return {
        "there": was,
        "here": now,
        "difference": estimate_json(difference),
        "p_value": number_json(p),
        "p_value_holm": None,
    }


def _correct(rows: list[dict[str, Any]]) -> None:
    """Holm's correction of each measure for the findings together."""
    for measure in [name for name, one in (rows[0] if rows else {}).items() if isinstance(one, dict)]:
        changes = [row[measure] for row in rows]
        p_values = np.array([np.nan if one["p_value"] is None else one["p_value"] for one in changes], dtype=np.float64)
        for one, corrected in zip(changes, holm(p_values), strict=True):
            one["p_value_holm"] = number_json(float(corrected))


LEVEL = 0.05
"""Changes whose corrected p-value lies below are named."""

_CALIBRATION = {
    "ece": "Calibration error",
    "brier": "Brier score",
    "excess": "Mean score minus proportion",
    "slope": "Slope",
}
_RATES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "alarms_per_100": "Positive calls per 100 films",
}


def view(report: dict[str, Any]) -> View | None:
    """What changed since an earlier report: sentences, a table of ranking, of calibration and of each threshold."""
    section = report["shift"]
    if not section:
        return None
    there, mean, findings = section["report"], section["mean"], section["findings"]
    sentences = [
        f"Set against the report of {there['system']} on {plural(there['films'], 'film')} of "
        f"{plural(there['patients'], 'other patient')} (split {there['split']}, protocol "
        f"{there['protocol'] or 'unknown'}).",
        *section["notes"],
    ]
    if mean["auroc"]["difference"]["value"] is not None:
        sentences.append(
            f"Mean AUROC over {plural(len(mean['findings']), 'finding')}: {_arrow(mean['auroc'])}, a change of "
            f"{_gap(mean['auroc'])}."
        )
    for measure, name in (("auroc", "AUROC"), ("prevalence", "proportion of films with the finding")):
        clear = [finding for finding, one in findings.items() if _below(one[measure]["p_value_holm"])]
        sentences.append(
            f"Changes of the {name} that chance does not explain: {listed(clear)}."
            if clear
            else f"No finding's {name} changed by more than chance explains."
        )
    counted = section.get("with_finding", {})
    tables = [_table("Ranking", findings, {"prevalence": "Proportion of films with it", "auroc": "AUROC"}, counted)]
    if all(measure in one for one in findings.values() for measure in _CALIBRATION):
        tables.append(_table("Calibration", findings, _CALIBRATION, counted))
    tables += [
        _table(f"At the other report's thresholds: {point_label(name)}", point, _RATES, counted)
        for name, point in section["operating_points"].items()
    ]
    return View(
        "shift",
        "External validation: what changed here",
        tuple(sentences),
        tables=tuple(tables),
        legend=(
            "From there to here; small: here minus there, its 95 % interval, and p, corrected (Holm) for the findings "
            "of a column. The patients are others, so nothing is paired: the interval is made from the two values' own "
            "intervals (Zou and Donner 2008). Labels that were made in another way change these numbers as other "
            "patients do. The calibration error of fewer films is larger by chance alone."
        ),
    )


def shift_table(section: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows for the command line."""
    rows = [
        [words(name), decimal(one["there"]["value"]), decimal(one["here"]["value"]), _gap(one), p]
        for name, one, p in [
            *((name, one["auroc"], shown_p(one["auroc"]["p_value_holm"])) for name, one in section["findings"].items()),
            ("mean", section["mean"]["auroc"], ""),
        ]
    ]
    return (
        f"AUROC against {section['report']['folder']}",
        ["finding", "there", "here", "difference [95 %]", "p\n(Holm)"],
        rows,
    )


def _table(
    title: str, rows: dict[str, dict[str, Any]], measures: dict[str, str], counted: dict[str, dict[str, int]]
) -> TableView:
    """Changes by finding; the last column counts who has it (absent from reports of earlier versions)."""
    known = all(name in counted for name in rows)
    lines = tuple(
        (
            Cell(words(name)),
            *(_cell(one[measure]) for measure in measures),
            *([_counts(counted[name])] if known else []),
        )
        for name, one in rows.items()
    )
    return TableView(title, ("Finding", *measures.values(), *(["With the finding"] if known else [])), lines)


def _counts(finding: dict[str, int]) -> Cell:
    films, patients = (
        f"{finding[f'{what}_there']:,} {_ARROW} {finding[f'{what}_here']:,}"
        for what in ("positives", "positive_patients")
    )
    return Cell(films, f"{patients} patients")


_ARROW = "\N{RIGHTWARDS ARROW}"


def _cell(change: dict[str, Any]) -> Cell:
    if change["difference"]["value"] is None:
        return Cell(_arrow(change))
    return Cell(_arrow(change), f"{_gap(change)}, p {shown_p(change['p_value_holm'])}")


def _arrow(change: dict[str, Any]) -> str:
    return f"{decimal(change['there']['value'])} {_ARROW} {decimal(change['here']['value'])}"


def _gap(change: dict[str, Any]) -> str:
    difference = change["difference"]
    if difference["value"] is None:
        return "undefined"
    return f"{difference['value']:+.3f} ({signed_interval(difference)})"


def _below(p_value: float | None) -> bool:
    return p_value is not None and p_value < LEVEL
