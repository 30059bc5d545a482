"""The section of a report on groups of patients: who is served worse than the rest."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Shaped

from hilum.data.judged import Judged
from hilum.judging.estimates import estimate_json, number_json
from hilum.metrics.subgroups import FEWEST_PATIENTS, MEASURES, UNDIAGNOSED, Contrast, Group, Members, subgroups
from hilum.operating import OperatingPoints

POINT = "specificity-90"
"""Where missed findings are counted: at Youden's point nearly every film is called for some finding."""

AGES = {"0 to 19 years": 0, "20 to 39 years": 20, "40 to 59 years": 40, "60 to 79 years": 60, "80 years or older": 80}
"""Bands of age, and where each begins."""

FILMS = {"1 film": 1, "2 to 4 films": 2, "5 to 19 films": 5, "20 films or more": 20}
"""Bands of a patient's number of judged films, and where each begins."""

Texts = Shaped[np.ndarray, " films"]


def subgroups_section(judged: Judged, points: OperatingPoints | None) -> dict[str, Any]:
    """Ranking, calibration and missed findings by sex, age, view, films per patient and source.

    In the form of report.json:

        fewest_patients    with a finding, and without it, that a number needs
        operating_point    at which missed findings are counted; null without thresholds
        not_measured: {MEASURE: sentence}    auroc, excess, missed or undiagnosed, for the whole section
        single: {ATTRIBUTE: value}    what all films have in common, so that it cannot be judged
        groups: [{attribute, name, films, patients, MEASURE: CONTRAST, findings: {FINDING: {films, patients, positives,
            positive_patients, MEASURE: CONTRAST}}}]    undiagnosed only for the group
        CONTRAST: {group: ESTIMATE, rest: ESTIMATE, difference: ESTIMATE (group minus rest), p_value, p_value_holm,
            findings (that the mean is over), too_small (why there is no number, or empty)}

    ATTRIBUTE is sex, age, view, films_per_patient or source; every film is in one group of each.

    Args:
        judged: with the manifest's columns in its truth.
        points: thresholds that were chosen on validation, or None.
    """
    numbers, labels, patients = judged.numbers, judged.labels, judged.patients
    probabilities = bool(((numbers >= 0) & (numbers <= 1)).all())
    values = _attributes(judged.truth)
    single = {name: str(texts[0]) for name, texts in values.items() if len(set(texts.tolist())) == 1}
    members: dict[tuple[str, str], Members] = {
        (attribute, value): texts == value
        for attribute, texts in values.items()
        if attribute not in single
        for value in _in_order(attribute, texts)
    }
    found = subgroups(
        numbers,
        labels,
        patients,
        None if points is None else _called(judged, points),
        {"\0".join(key): films for key, films in members.items()},
        probabilities=probabilities,
    )
    not_measured = {}
    if not probabilities:
        not_measured["excess"] = "Scores outside [0, 1] are no probabilities, so their calibration cannot be judged."
    if points is None:
        without = "No thresholds came with these scores, so missed findings cannot be counted."
        not_measured |= {"missed": without, UNDIAGNOSED: without}
    return {
        "fewest_patients": FEWEST_PATIENTS,
        "operating_point": None if points is None else POINT,
        "not_measured": not_measured,
        "single": single,
        "groups": [
            _group_json(key, members[key], group, judged) for key, group in zip(members, found.values(), strict=True)
        ],
    }


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


def _called(judged: Judged, points: OperatingPoints) -> Float64[np.ndarray, "films findings"]:
    """1 where a score reaches its threshold, 0 where not, NaN in columns without one."""
    thresholds = [points.thresholds(POINT)[finding] for finding in judged.findings]
    values = np.array([np.nan if one is None else one.value for one in thresholds], dtype=np.float64)
    return np.where(np.isnan(values), np.nan, judged.numbers >= values)


def _group_json(key: tuple[str, str], films: Members, group: Group, judged: Judged) -> dict[str, Any]:
    labels, patients = judged.labels[films], judged.patients[films]
    findings = {}
    for k, (name, contrasts) in enumerate(zip(judged.findings, group.findings, strict=True)):
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
