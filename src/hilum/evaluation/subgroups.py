"""The section on subgroups of patients: for whom the system performs worse than for the rest."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Shaped

from hilum.evaluation.case import Case
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.views import (
    Cell,
    Forest,
    TableView,
    View,
    cell,
    count,
    forest,
    listed,
    plural,
    shown_p,
    signed_interval,
    words,
)
from hilum.metrics.bootstrap import estimate_json, number_json
from hilum.metrics.operating_points import point_label
from hilum.metrics.subgroups import FEWEST_PATIENTS, MEASURES, UNDIAGNOSED, Contrast, Group, Members, subgroups
from hilum.model.thresholds import OperatingPoints

key = "subgroups"

POINT = "specificity-90"
"""Where missed findings are counted: at Youden's point nearly every film is called for some finding."""

AGES = {"0 to 19 years": 0, "20 to 39 years": 20, "40 to 59 years": 40, "60 to 79 years": 60, "80 years or older": 80}
"""Bands of age, and where each begins."""

FILMS = {"1 film": 1, "2 to 4 films": 2, "5 to 19 films": 5, "20 films or more": 20}
"""Bands of a patient's number of evaluated films, and where each begins."""

Texts = Shaped[np.ndarray, " films"]


def measure(case: Case) -> dict[str, Any]:
    """What `subgroups_section` finds in the evaluation set."""
    return subgroups_section(case.evaluated, case.points)


def subgroups_section(evaluated: EvaluationSet, points: OperatingPoints | None) -> dict[str, Any]:
    """Ranking, calibration and missed findings by sex, age, view, films per patient and source.

    In the form of report.json:

        fewest_patients    with a finding, and without it, that a number needs
        operating_point    at which missed findings are counted; null without thresholds
        not_measured: {MEASURE: sentence}    auroc, excess, missed or undiagnosed, for the whole section
        single: {ATTRIBUTE: value}    what all films have in common, so that it cannot be evaluated
        groups: [{attribute, name, films, patients, MEASURE: CONTRAST, findings: {FINDING: {films, patients, positives,
            positive_patients, MEASURE: CONTRAST}}}]    undiagnosed only for the group
        intersections: [the same]    of two attributes; only those large enough for an AUROC, corrected among themselves
        CONTRAST: {group: ESTIMATE, rest: ESTIMATE, difference: ESTIMATE (group minus rest), p_value, p_value_holm,
            findings (that the mean is over), too_small (why there is no number, or empty)}

    ATTRIBUTE is sex, age, view, films_per_patient or source; every film is in one group of each. Of intersections it is
    two names with `+` between them, as in sex+age.

    Args:
        evaluated: with the manifest's columns in its truth.
        points: thresholds that were chosen on validation, or None.
    """
    numbers, labels, patients = evaluated.numbers, evaluated.labels, evaluated.patients
    probabilities = bool(((numbers >= 0) & (numbers <= 1)).all())
    values = _attributes(evaluated.truth)
    single = {name: str(texts[0]) for name, texts in values.items() if len(set(texts.tolist())) == 1}
    members: dict[tuple[str, str], Members] = {
        (attribute, value): texts == value
        for attribute, texts in values.items()
        if attribute not in single
        for value in _in_order(attribute, texts)
    }
    called = None if points is None else _called(evaluated, points)
    both = _intersections(members, patients)
    found, crossed = (
        subgroups(
            numbers,
            labels,
            patients,
            called,
            {"\0".join(key): films for key, films in those.items()},
            probabilities=probabilities,
        )
        for those in (members, both)
    )
    not_measured = {}
    if not probabilities:
        not_measured["excess"] = "Scores outside [0, 1] are no probabilities, so their calibration cannot be evaluated."
    if points is None:
        without = "No thresholds came with these scores, so missed findings cannot be counted."
        not_measured |= {"missed": without, "needless": without, UNDIAGNOSED: without}
    return {
        "fewest_patients": FEWEST_PATIENTS,
        "operating_point": None if points is None else points.nearest(POINT),
        "not_measured": not_measured,
        "single": single,
        "groups": [
            _group_json(key, members[key], group, evaluated) for key, group in zip(members, found.values(), strict=True)
        ],
        "intersections": [
            _group_json(key, both[key], group, evaluated) for key, group in zip(both, crossed.values(), strict=True)
        ],
    }


CROSSED = (("sex", "age"), ("sex", "view"), ("age", "view"))
"""Attributes whose intersections are measured."""

_LARGE = 5 * FEWEST_PATIENTS
"""Patients that an intersection must have, and must leave to the rest, to be measured at all."""


def _intersections(
    members: dict[tuple[str, str], Members], patients: Shaped[np.ndarray, " films"]
) -> dict[tuple[str, str], Members]:
    """The films of two groups at once, where those are many and neither whole group; of what is unknown, none."""
    found = {}
    for one, other in CROSSED:
        for (attribute, name), films in members.items():
            for (second, value), others in members.items():
                both = films & others
                if (attribute, second) != (one, other) or "unknown" in (name, value):
                    continue
                beside = (len(set(patients[one_of_them & ~both])) for one_of_them in (films, others))
                if (
                    min(len(set(patients[both])), len(set(patients[~both]))) >= _LARGE
                    and min(beside) >= FEWEST_PATIENTS
                ):
                    found[f"{one}+{other}", f"{name}, {value}"] = both
    return found


def _attributes(truth: pd.DataFrame) -> dict[str, Texts]:
    """Each film's value of each attribute."""
    films = truth.groupby("patient")["film"].transform("size").to_numpy(dtype=np.float64)
    return {
        "sex": truth["sex"].to_numpy(dtype=str),
        "age": _bands(truth["age"].to_numpy(np.float64), AGES),
        "view": truth["view"].to_numpy(dtype=str),
        "films_per_patient": _bands(films, FILMS),
        "source": truth["source"].to_numpy(dtype=str),
    }


def _bands(values: Float64[np.ndarray, " films"], bands: dict[str, int]) -> Texts:
    """The name of each value's band, or unknown."""
    places = np.searchsorted(list(bands.values()), values, side="right") - 1
    return np.array([*bands, "unknown"])[np.where(np.isnan(values), len(bands), places)]


def _in_order(attribute: str, values: Texts) -> list[str]:
    """The values that occur, as they are shown: bands from low to high, others by name."""
    bands = [*{"age": AGES, "films_per_patient": FILMS}.get(attribute, {})]
    found = sorted(set(values.tolist()))
    return [name for name in bands if name in found] + [name for name in found if name not in bands]


def _called(evaluated: EvaluationSet, points: OperatingPoints) -> Float64[np.ndarray, "films findings"]:
    """1 where a score reaches its threshold, 0 where not, NaN in columns without one."""
    thresholds = [points.thresholds(points.nearest(POINT))[finding] for finding in evaluated.findings]
    values = np.array([np.nan if one is None else one.value for one in thresholds], dtype=np.float64)
    return np.where(np.isnan(values), np.nan, evaluated.numbers >= values)


def _group_json(key: tuple[str, str], films: Members, group: Group, evaluated: EvaluationSet) -> dict[str, Any]:
    labels, patients = evaluated.labels[films], evaluated.patients[films]
    findings = {}
    for k, (name, contrasts) in enumerate(zip(evaluated.findings, group.findings, strict=True)):
        known, present = ~np.isnan(labels[:, k]), labels[:, k] == 1
        findings[name] = {
            "films": int(known.sum()),
            "patients": len(set(patients[known])),
            "positives": int(present.sum()),
            "positive_patients": len(set(patients[present])),
            **{measure: _contrast_json(contrasts[measure]) for measure in MEASURES},
        }
    return {
        "attribute": key[0],
        "name": key[1],
        "films": int(films.sum()),
        "patients": len(set(patients)),
        **{measure: _contrast_json(contrast) for measure, contrast in group.overall.items()},
        "findings": findings,
    }


def _contrast_json(contrast: Contrast) -> dict[str, Any]:
    small = ""
    if np.isnan(contrast.group.value):
        small = "the group is too small"
    elif np.isnan(contrast.rest.value):
        small = "the rest is too small"
    return {
        "group": estimate_json(contrast.group.estimate),
        "rest": estimate_json(contrast.rest.estimate),
        "difference": estimate_json(contrast.gap.estimate),
        "p_value": number_json(contrast.gap.p_value),
        "p_value_holm": number_json(contrast.p_value_holm),
        "findings": contrast.findings,
        "too_small": small,
    }


ATTRIBUTES = {
    "sex": "sex",
    "age": "age",
    "view": "view",
    "films_per_patient": "films per patient",
    "source": "source",
    **{f"{one}+{other}": f"{one} and {other}" for one, other in CROSSED},
}
"""What each attribute is called."""

MEASURE_WORDS = {
    "auroc": "AUROC",
    "excess": "Mean score minus proportion",
    "missed": "Missed findings",
    "needless": "Needless calls",
    "undiagnosed": "Undiagnosed films",
}
"""What each measure is called."""

LEVEL = 0.05
"""Differences whose corrected p-value lies below are named."""

_SHOWN_FINDINGS = 20


def view(report: dict[str, Any]) -> View | None:
    """For whom it performs worse: sentences, a table of all subgroups, and one of single findings that differ."""
    section, title = report["subgroups"], "Subgroups of patients: for whom it performs worse"
    if not section:
        return None
    groups = section["groups"]
    sentences = [f"All films have one {ATTRIBUTES[name]} ({value})." for name, value in section["single"].items()]
    if not groups:
        return View("subgroups", title, ("These films cannot be divided into subgroups.", *sentences))
    clear = [
        f"{_name(group)}: {MEASURE_WORDS[measure]} {group[measure]['difference']['value']:+.3f}"
        for group in groups
        for measure in MEASURE_WORDS
        if measure in group and _below(group[measure]["p_value_holm"])
    ]
    tested = [group for group in groups if _is_tested(group)]
    said = "Of the subgroups that are large enough to be tested, none" if len(tested) < len(groups) else "No subgroup"
    if clear:
        verdict = f"Differences from the rest of the films that chance does not explain: {'; '.join(clear)}."
    elif tested:
        verdict = (
            f"{said} differs from the rest of the films, over all findings, by more than chance explains. That is no "
            "proof that none does: the intervals show what these films cannot rule out."
        )
    else:
        verdict = "No subgroup is large enough to be tested against the rest of the films."
    sentences = [
        verdict,
        *dict.fromkeys(section["not_measured"].values()),
        *sentences,
    ]
    small = [_name(group) for group in groups if group["auroc"]["group"]["value"] is None]
    if small:
        sentences.append(f"Too small to be evaluated: {listed(small)}.")
    alone = [_name(group) for group in groups if not _is_tested(group) and _name(group) not in small]
    if alone:
        sentences.append(f"Not tested, because the rest of the films is too small: {listed(alone)}.")
    measures = [
        name for name in MEASURE_WORDS if name not in section["not_measured"] and name in groups[0]
    ]  # reports of earlier versions have fewer
    tables = [TableView("Each subgroup beside the rest of the films", *_table(groups, measures))]
    crossed = section.get("intersections", [])
    if crossed:
        differing = [group for group in crossed if any(_below(group[one]["p_value_holm"]) for one in measures)]
        sentences.append(
            f"Of {plural(len(crossed), 'intersection')} of two attributes that are large enough, these differ from the "
            f"rest by more than chance: {listed([_name(group) for group in differing])}."
            if differing
            else f"Of {plural(len(crossed), 'intersection')} of two attributes that are large enough, none differs "
            "from the rest by more than chance explains."
        )
    found = _single_findings(groups, measures)
    if found:
        tables.append(TableView("Single findings in which a subgroup differs", _FINDING_HEADER, found))
    if crossed:
        tables.append(TableView("Intersections of two subgroups, beside all other films", *_table(crossed, measures)))
    return View(
        "subgroups",
        title,
        tuple(sentences),
        tables=tuple(tables),
        forests=_forests(groups, measures),
        legend=_legend(section),
    )


def _forests(groups: list[dict[str, Any]], measures: list[str]) -> tuple[Forest, ...]:
    """For each measure the groups' differences from their rest, one below the other."""
    names = [
        Cell(group["name"], f"{ATTRIBUTES[group['attribute']]}, {count(group['films'])} films") for group in groups
    ]
    found = (
        forest(
            f"{MEASURE_WORDS[measure]}: subgroup minus the rest",
            [(name, group[measure]["difference"]) for name, group in zip(names, groups, strict=True)],
            nothing="too small",
        )
        for measure in measures
    )
    return tuple(plot for plot in found if plot)


_FINDING_HEADER = ("Subgroup", "Finding", "Measure", "Subgroup", "Rest", "Difference", "With the finding")


def _table(groups: list[dict[str, Any]], measures: list[str]) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    header = ["Subgroup", "Films"]
    for name in measures:
        header += [MEASURE_WORDS[name], "minus the rest"]
    rows = []
    for group in groups:
        row = [Cell(group["name"], ATTRIBUTES[group["attribute"]])]
        row.append(Cell(count(group["films"]), plural(group["patients"], "patient")))
        for name in measures:
            row += _cells(group[name], group[name]["findings"] if name != "undiagnosed" else None)
        rows.append(tuple(row))
    return tuple(header), tuple(rows)


def _cells(contrast: dict[str, Any], findings: int | None) -> list[Cell]:
    if contrast["group"]["value"] is None:
        return [Cell("too small"), Cell("")]
    shown = cell(contrast["group"])
    if findings is not None:
        shown = Cell(shown.text, f"{shown.small}, {plural(findings, 'finding')}")
    return [shown, _difference(contrast)]


def _difference(contrast: dict[str, Any]) -> Cell:
    gap = contrast["difference"]
    if gap["value"] is None:
        return Cell("rest too small")
    return Cell(f"{gap['value']:+.3f}", f"{signed_interval(gap)}, p {shown_p(contrast['p_value_holm'])}")


def _single_findings(groups: list[dict[str, Any]], measures: list[str]) -> tuple[tuple[Cell, ...], ...]:
    """The clearest differences of single findings, the smallest p-values first."""
    found = [
        (finding[measure]["p_value_holm"], group, name, measure, finding)
        for group in groups
        for name, finding in group["findings"].items()
        for measure in measures
        if measure in finding and _below(finding[measure]["p_value_holm"])
    ]
    found.sort(key=lambda one: float(one[0]))
    return tuple(
        (
            Cell(group["name"], ATTRIBUTES[group["attribute"]]),
            Cell(words(name)),
            Cell(MEASURE_WORDS[measure]),
            cell(finding[measure]["group"]),
            cell(finding[measure]["rest"]),
            _difference(finding[measure]),
            Cell(count(finding["positives"]), plural(finding["positive_patients"], "patient")),
        )
        for _, group, name, measure, finding in found[:_SHOWN_FINDINGS]
    )


def _legend(section: dict[str, Any]) -> str:
    fewest, point = section["fewest_patients"], section["operating_point"]
    missed = (
        " Missed findings: the proportion of films with a finding in which it is not called (false negative rate); "
        "needless calls: of films without it in which it is (false positive rate); both are means over findings. "
        "Undiagnosed films: the proportion of films with any finding in which none is called. All at "
        f"{point_label(point).lower()}."
        if point
        else ""
    )
    return (
        "AUROC and mean score minus proportion of films with the finding are means over the findings that at least "
        f"{fewest} patients have, and {fewest} do not, in the subgroup and in the rest; so subgroups compare "
        f"with their rest, not with each other. Above 0 the scores are too high for the subgroup.{missed} "
        "Intervals and p-values take patients, not films, as independent; p is corrected (Holm) for all subgroups, "
        "measure by measure, for all intersections in the same way, and "
        f"in the table of single findings, which shows the {_SHOWN_FINDINGS} clearest, for all subgroups and findings. "
        "A subgroup may differ because its films are harder, not because the system performs worse for it."
    )


def _is_tested(group: dict[str, Any]) -> bool:
    """Whether any of its differences has a test."""
    return any(group[measure]["p_value"] is not None for measure in MEASURE_WORDS if measure in group)


def _name(group: dict[str, Any]) -> str:
    return f"{ATTRIBUTES[group['attribute']]} {group['name']}"


def _below(p_value: float | None) -> bool:
    return p_value is not None and p_value < LEVEL
