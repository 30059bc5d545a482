"""Measures with each patient's part in their error: intervals and tests of many groups without resampling.

Whether a system serves some patients worse than the rest: ranking, calibration and missed findings by group.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped
from scipy.special import expit, logit
from scipy.stats import t

from hilum.metrics.bootstrap import Estimate, unanimous
from hilum.metrics.compare import holm, placements
from hilum.metrics.ranking import Table

Numbers = Float64[np.ndarray, " films"]
Codes = Int[np.ndarray, " films"]  # whose film each is, from 0


@dataclass(frozen=True)
class Measured:
    """A measure on some films.

    Attributes:
        value: NaN if it does not exist.
        parts: what each patient adds to its error; their squares sum to its variance. 0 for those without such films.
        patients: on how many it rests: of both kinds of an AUROC, the rarer.
        within: whether it lies in [0, 1], and its interval must.
    """

    value: float
    parts: Float64[np.ndarray, " patients"]
    patients: int
    within: bool

    @property
    def estimate(self) -> Estimate:
        """With its 95 % interval: of Student's t, on the scale of logits for a measure in [0, 1].

        Where all films agree there is no spread, which is no certainty: the interval is then the exact one for as many
        independent patients.
        """
        if math.isnan(self.value) or self.patients < 2:
            return Estimate(self.value, float("nan"), float("nan"), 0)
        if self._unanimous:
            return Estimate(self.value, *unanimous(self.value, self.patients), 0)
        reach = _reach(self.patients) * float(np.sqrt(self._variance))
        if not self.within:
            return Estimate(self.value, self.value - reach, self.value + reach, 0)
        reach /= self.value * (1 - self.value)
        low, high = (float(expit(logit(self.value) + side)) for side in (-reach, reach))
        return Estimate(self.value, low, high, 0)

    @property
    def _variance(self) -> float:
        return float(np.sum(self.parts**2))

    @property
    def _unanimous(self) -> bool:
        return self.within and self.value in (0.0, 1.0)

    @property
    def _hidden_variance(self) -> float:
        """What the spread of films that all agree does not show: as if their exact interval were twice 1.96 errors."""
        if not self._unanimous:
            return 0.0
        low, high = unanimous(self.value, self.patients)
        return ((high - low) / 1.96) ** 2


class Difference(NamedTuple):
    """A difference with its 95 % interval, and the two-sided p-value that belongs to it."""

    estimate: Estimate
    p_value: float


def nothing(patients: int) -> Measured:
    """The measure that does not exist, for so many patients."""
    return Measured(float("nan"), np.zeros(patients), 0, within=False)


def measured_auroc(scores: Numbers, labels: Numbers, codes: Codes, patients: int) -> Measured:
    """AUROC of one finding, with DeLong's variance for films that come in patients.

    What a patient's films of both kinds share is widened by the two kinds' factors for few patients, not by the
    source's for all patients together, so that every patient has one part; the error is a trifle larger.

    Args:
        labels: 1 present, 0 absent, NaN unknown (left out).
        patients: how many there are, with films here or not.

    Source: Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997.
    """
    placed = placements(scores[:, np.newaxis], labels)
    value = float(placed.auroc[0])
    if math.isnan(value):
        return nothing(patients)
    parts, people = np.zeros(patients), []
    for placement, kind in ((placed.present[:, 0], 1), (placed.absent[:, 0], 0)):
        of_kind = codes[labels == kind]
        people.append(len(np.unique(of_kind)))
        parts += _widened(np.bincount(of_kind, (placement - value) / len(of_kind), minlength=patients), people[-1])
    return Measured(value, parts, min(people), within=True)


def measured_mean(values: Numbers, codes: Codes, patients: int, *, within: bool) -> Measured:
    """The mean of a number per film, such as a share of films; undefined for no films.

    Args:
        patients: how many there are, with films here or not.
        within: whether the numbers lie in [0, 1].
    """
    if not len(values):
        return nothing(patients)
    mean, people = float(values.mean()), len(np.unique(codes))
    parts = np.bincount(codes, (values - mean) / len(values), minlength=patients)
    return Measured(mean, _widened(parts, people), people, within=within)


def average(measured: Sequence[Measured]) -> Measured:
    """The mean of several measures of the same patients, which rests on as many as any of them; undefined for none."""
    if not measured:
        return nothing(0)
    return Measured(
        float(np.mean([one.value for one in measured])),
        np.asarray(np.mean([one.parts for one in measured], axis=0), dtype=np.float64),
        max(one.patients for one in measured),
        within=all(one.within for one in measured),
    )


def difference(first: Measured, second: Measured) -> Difference:
    """The first minus the second, of the same patients or others: those in both count for what they add to each."""
    value, patients = first.value - second.value, min(first.patients, second.patients)
    if math.isnan(value) or patients < 2:
        return Difference(Estimate(value, float("nan"), float("nan"), 0), float("nan"))
    seen = float(np.sum((first.parts - second.parts) ** 2))
    error = math.sqrt(seen + first._hidden_variance + second._hidden_variance)
    if error == 0:
        return Difference(Estimate(value, value, value, 0), 1.0 if value == 0 else float("nan"))
    reach = _reach(patients) * error
    p_value = float(2 * t.sf(abs(value) / error, patients - 1))
    return Difference(Estimate(value, value - reach, value + reach, 0), p_value)


def _reach(patients: int) -> float:
    return float(t.ppf(0.975, patients - 1))


def _widened(parts: Float64[np.ndarray, " patients"], people: int) -> Float64[np.ndarray, " patients"]:
    """Parts whose squares do not underrate the variance because they were measured from their own mean."""
    return parts * math.sqrt(people / (people - 1)) if people > 1 else parts


MEASURES = ("auroc", "excess", "missed")
"""Of a finding; over all findings, their means."""

UNDIAGNOSED = "undiagnosed"
"""The measure that only all findings together have."""

FEWEST_PATIENTS = 10
"""With a finding, and without it, on either side of a comparison; with fewer, chance is not told from the system."""

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
    finding in which it is not called; `undiagnosed`, the share of films with any finding in which none is called.
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
                measures["excess"] = measured_mean(scores - truth, codes, films.patients, within=False)
        if films.called is not None and not np.isnan(films.called[:, k]).any():
            measures["missed"] = _missed(films, here & (films.labels[:, k] == 1), films.called[:, k] == 0)
        found.append(measures)
    return found


def _undiagnosed(films: _Films, side: Members) -> Measured:
    """Of the films with any finding that has a threshold, the share in which none is called."""
    if films.called is None:
        return nothing(films.patients)
    judged = ~np.isnan(films.called).any(axis=0)
    ill = (films.labels[:, judged] == 1).any(axis=1)
    return _missed(films, side & ill, ~(films.called[:, judged] == 1).any(axis=1))


def _missed(films: _Films, here: Members, missed: Members) -> Measured:
    codes = films.codes[here]
    if len(np.unique(codes)) < FEWEST_PATIENTS:
        return nothing(films.patients)
    return measured_mean(missed[here].astype(np.float64), codes, films.patients, within=True)
