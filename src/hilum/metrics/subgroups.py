"""Whether a system serves some patients worse than the rest: ranking, calibration and missed findings by group."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from hilum.metrics.compare import holm
from hilum.metrics.influence import FEWEST_PATIENTS as FEWEST_PATIENTS
from hilum.metrics.influence import (
    Codes,
    Difference,
    Measured,
    Numbers,
    average,
    difference,
    measured_auroc,
    measured_mean,
    nothing,
)
from hilum.metrics.ranking import Table

MEASURES = ("auroc", "excess", "missed", "needless")
"""Of a finding; over all findings, their means."""

UNDIAGNOSED = "undiagnosed"
"""The measure that only all findings together have."""

Members = Bool[np.ndarray, " films"]


class Contrast(NamedTuple):
    """One measure in a group and in the rest of the films, undefined (NaN) where a side is too small."""

    group: Measured
    rest: Measured
    gap: Difference  # group minus rest
    p_value_holm: float
    findings: int  # that the measure is over


@dataclass(frozen=True)
class Group:
    """What is measured on one group of films.

    Attributes:
        overall: the means of the measures over the findings, and undiagnosed.
        findings: the same measures of each finding.
    """

    overall: dict[str, Contrast]
    findings: tuple[dict[str, Contrast], ...]


class _Films(NamedTuple):
    """What is known of some films."""

    scores: Table
    labels: Table
    called: Table | None
    codes: Codes
    patients: int


def subgroups(
    scores: Table,
    labels: Table,
    patients: Shaped[np.ndarray, " films"],
    called: Table | None,
    groups: dict[str, Members],
    *,
    probabilities: bool,
) -> dict[str, Group]:
    """Each group of films beside the rest of the films, with intervals and tests in which patients are the units.

    Measures: `auroc`; `excess`, mean score minus share of films with the finding; `missed`, the share of films with a
    finding in which it is not called (false negative rate); `needless`, the share of films without it in which it is
    called (false positive rate); `undiagnosed`, the share of films with any finding in which none is called.
    Means over findings are over those that both sides define, so that a group is never compared on other findings
    than its rest; where the rest defines none, over the group's own. P-values are corrected measure by measure: for
    all groups together, and the findings' for all groups and findings.

    Args:
        scores: finite; higher means more likely present.
        labels: 1 present, 0 absent, NaN unknown (left out for that finding).
        patients: whose film each row is.
        called: 1 where a finding is called, 0 where not, NaN in a column without threshold; None without thresholds.
        groups: the films of each group.
        probabilities: whether the scores are; if not, `excess` is undefined.

    Source: Seyyed-Kalantari et al., "Underdiagnosis bias of artificial intelligence algorithms applied to chest
        radiographs in under-served patient populations", Nature Medicine 27, 2021 (undiagnosed).
    """
    names, codes = np.unique(patients, return_inverse=True)
    films = _Films(scores, labels, called, codes, len(names))
    found = {name: _group(films, members, probabilities) for name, members in groups.items()}
    for measure in (*MEASURES, UNDIAGNOSED):
        _correct([group.overall for group in found.values()], measure)
    for measure in MEASURES:
        _correct([finding for group in found.values() for finding in group.findings], measure)
    return found


def _correct(contrasts: list[dict[str, Contrast]], measure: str) -> None:
    p_values = np.array([one[measure].gap.p_value for one in contrasts], dtype=np.float64)
    for one, corrected in zip(contrasts, holm(p_values), strict=True):
        one[measure] = one[measure]._replace(p_value_holm=float(corrected))


def _group(films: _Films, members: Members, probabilities: bool) -> Group:
    inside, outside = (_per_finding(films, side, probabilities) for side in (members, ~members))
    overall = {}
    for measure in MEASURES:
        pairs = [(one[measure], other[measure]) for one, other in zip(inside, outside, strict=True)]
        shared = [pair for pair in pairs if not any(np.isnan(side.value) for side in pair)]
        own = [group for group, _ in shared] or [group for group, _ in pairs if not np.isnan(group.value)]
        group, rest = average(own), average([rest for _, rest in shared])
        overall[measure] = _contrast(group, rest, len(own))
    group, rest = (_undiagnosed(films, side) for side in (members, ~members))
    callable_findings = 0 if films.called is None else int((~np.isnan(films.called).any(axis=0)).sum())
    overall[UNDIAGNOSED] = _contrast(group, rest, callable_findings)
    return Group(
        overall,
        tuple(
            {measure: _contrast(one[measure], other[measure], 1) for measure in MEASURES}
            for one, other in zip(inside, outside, strict=True)
        ),
    )


def _contrast(group: Measured, rest: Measured, findings: int) -> Contrast:
    if np.isnan(group.value) or np.isnan(rest.value):
        gap = difference(nothing(0), nothing(0))
    else:
        gap = difference(group, rest)
    return Contrast(group, rest, gap, float("nan"), findings)


def _per_finding(films: _Films, side: Members, probabilities: bool) -> list[dict[str, Measured]]:
    """All measures of each finding on one side."""
    found = []
    for k in range(films.scores.shape[1]):
        here = side & ~np.isnan(films.labels[:, k])
        scores: Numbers = np.asarray(films.scores[here, k], dtype=np.float64)
        truth: Numbers = np.asarray(films.labels[here, k], dtype=np.float64)
        codes, undefined = films.codes[here], nothing(films.patients)
        measures = dict.fromkeys(MEASURES, undefined)
        if all(len(np.unique(codes[truth == kind])) >= FEWEST_PATIENTS for kind in (0, 1)):
            measures["auroc"] = measured_auroc(scores, truth, codes, films.patients)
            if probabilities:
                measures["excess"] = measured_mean(scores - truth, codes, films.patients, scale="plain")
        if films.called is not None and not np.isnan(films.called[:, k]).any():
            measures["missed"] = _missed(films, here & (films.labels[:, k] == 1), films.called[:, k] == 0)
            measures["needless"] = _missed(films, here & (films.labels[:, k] == 0), films.called[:, k] == 1)
        found.append(measures)
    return found


def _undiagnosed(films: _Films, side: Members) -> Measured:
    """Of the films with any finding that has a threshold, the share in which none is called."""
    if films.called is None:
        return nothing(films.patients)
    evaluated = ~np.isnan(films.called).any(axis=0)
    ill = (films.labels[:, evaluated] == 1).any(axis=1)
    return _missed(films, side & ill, ~(films.called[:, evaluated] == 1).any(axis=1))


def _missed(films: _Films, here: Members, missed: Members) -> Measured:
    """The proportion of these films that are called wrongly."""
    codes = films.codes[here]
    if len(np.unique(codes)) < FEWEST_PATIENTS:
        return nothing(films.patients)
    return measured_mean(missed[here].astype(np.float64), codes, films.patients, scale="rate")
