"""Intervals and tests from each patient's influence on a measure: closed form, and sound for rare findings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped
from scipy.special import betaincinv, expit, logit, stdtr, stdtrit

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.ranking import Table, auroc, placements

Numbers = Float64[np.ndarray, " films"]
Codes = Int[np.ndarray, " films"]  # whose film each is, from 0
Parts = Float64[np.ndarray, " patients"]
Scale = Literal["plain", "logit", "ratio", "auroc", "rate"]

FEWEST_PATIENTS = 10
"""With a finding, and without it, that an interval or a test needs."""

_PRIOR_PATIENTS = 2.0
"""As which the spread of other findings counts beside a rare finding's own."""

_SCORE_POWER = 0.85
"""How the error of an AUROC shrinks towards 0 and 1: as (value x (1 - value)) to this power."""


@dataclass(frozen=True)
class Measured:
    """A measure on some films.

    Attributes:
        value: NaN if it does not exist.
        parts: what each patient adds to its error; their squares sum to its variance. 0 for those without such films.
        patients: on how many it rests: of both kinds of an AUROC, the rarer.
        effective: the same, as if all of them had equally many films.
        degrees: of freedom of the variance.
        scale: on which the interval is symmetric: plain; logit; ratio, log(1 - value); auroc, between plain and
            logit; rate, a binomial proportion.
        why: why there is no interval, or empty.
        present: of `parts`, what comes from the films with the finding.
        hidden: variance that `parts` do not show.
    """

    value: float
    parts: Parts
    patients: int
    effective: float
    degrees: float
    scale: Scale
    why: str = ""
    present: Parts | None = None
    hidden: float = 0.0

    @property
    def variance(self) -> float:
        """Of the value."""
        return float(self.parts @ self.parts) + self.hidden

    @property
    def unanimous(self) -> bool:
        """Whether all films agree, so that they show no spread."""
        return self.scale not in ("plain", "ratio") and self.value in (0.0, 1.0)

    @property
    def estimate(self) -> Estimate:
        """With its 95 % interval, or why there is none."""
        if math.isnan(self.value) or self.why:
            return Estimate(self.value, float("nan"), float("nan"), 0, self.why)
        return Estimate(self.value, *self.interval(), 0)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Both ends. Where all films agree: the exact ones for as many independent patients, which is no certainty."""
        if self.unanimous:
            outside = 1 - ((1 - level) / 2) ** (1 / max(self.effective, 1.0))
            return (0.0, outside) if self.value == 0 else (1 - outside, 1.0)
        reach = float(stdtrit(self.degrees, (1 + level) / 2)) * math.sqrt(self.variance)
        match self.scale:
            case "plain":
                return self.value - reach, self.value + reach
            case "ratio":
                reach /= 1 - self.value
                return 1 - (1 - self.value) * math.exp(reach), 1 - (1 - self.value) * math.exp(-reach)
            case "logit":
                reach /= self.value * (1 - self.value)
                return float(expit(logit(self.value) - reach)), float(expit(logit(self.value) + reach))
            case "auroc":
                return _score_interval(self.value, reach)
            case "rate":
                return _rate_interval(self, level)


class Difference(NamedTuple):
    """A difference with its 95 % interval, and the two-sided p-value that belongs to it."""

    estimate: Estimate
    p_value: float


def too_few(patients: int, whose: str) -> str:
    """Why there is no interval: "too few patients with the finding: 3"; empty if there are enough."""
    return f"too few patients {whose}: {patients}" if patients < FEWEST_PATIENTS else ""


def nothing(patients: int, why: str = "") -> Measured:
    """The measure that does not exist, for so many patients."""
    return Measured(float("nan"), np.zeros(patients), 0, 0.0, 1.0, "plain", why)


def measured_auroc(scores: Numbers, labels: Numbers, codes: Codes, patients: int) -> Measured:
    """AUROC of one finding, with DeLong's variance for films that come in patients.

    Args:
        labels: 1 present, 0 absent, NaN unknown (left out).
        patients: how many there are, with films here or not.

    Source: Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997.
    """
    placed = placements(scores[:, np.newaxis], labels)
    return _two_kinds(
        auroc(scores, labels), placed.present[:, 0], placed.absent[:, 0], labels, codes, patients, scale="auroc"
    )


def measured_average_precision(scores: Numbers, labels: Numbers, codes: Codes, patients: int) -> Measured:
    """Average precision of one finding, with the variance of drawing patients. Arguments as for `measured_auroc`.

    A film's influence is what one more such film would change, to first order: a film with the finding raises the
    precision at its own score and below, one without it lowers that.
    """
    known = ~np.isnan(labels)
    present = labels[known] == 1
    levels, row = np.unique(-scores[known], return_inverse=True)
    hits = np.cumsum(np.bincount(row, present, minlength=len(levels)))
    films = np.cumsum(np.bincount(row, minlength=len(levels)))
    here = np.bincount(row, present, minlength=len(levels))
    number = max(int(present.sum()), 1)
    precision = hits / np.maximum(films, 1)
    value = float((here * precision).sum() / number) if present.any() and not present.all() else float("nan")
    raised = np.cumsum((here * (films - hits) / np.maximum(films, 1) ** 2)[::-1])[::-1][row]
    lowered = np.cumsum((here * hits / np.maximum(films, 1) ** 2)[::-1])[::-1][row]
    absent = max(int((~present).sum()), 1)
    of_present = value + (precision[row] - value + raised)[present]
    of_absent = value - (lowered * absent / number)[~present]
    return _two_kinds(value, of_present, of_absent, labels, codes, patients, scale="logit")


def measured_mean(values: Numbers, codes: Codes, patients: int, *, scale: Scale, whose: str = "") -> Measured:
    """The mean of a number per film, such as a proportion of films; undefined for no films.

    Args:
        patients: how many there are, with films here or not.
        scale: rate for 0 and 1, logit for what lies between them.
        whose: what the films have in common, for the word on too few patients: "with the finding".
    """
    if not len(values):
        return nothing(patients, f"no film {whose}".strip())
    mean = float(values.mean())
    parts, people, effective = _per_patient(values - mean, codes, patients)
    degrees = _degrees([(parts, effective)], parts)
    return Measured(mean, parts, people, effective, degrees, scale, too_few(people, whose or "here"))


def measured_rate(calls: Numbers, among: Shaped[np.ndarray, " films"], codes: Codes, whose: str) -> Measured:
    """The proportion of the films of `among` in which `calls` is 1: a sensitivity, a PPV, positive calls.

    Source: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts",
        Survey Methodology 24, 1998 (effective number of films); Brown, Cai and DasGupta, "Interval estimation for a
        binomial proportion", Statistical Science 16, 2001 (Jeffreys' interval).
    """
    patients = int(codes.max(initial=-1)) + 1
    return measured_mean(calls[among].astype(np.float64), codes[among], patients, scale="rate", whose=whose)


def measured_per_finding(
    scores: Table, labels: Table, patients: Shaped[np.ndarray, " films"]
) -> tuple[tuple[Measured, ...], tuple[Measured, ...]]:
    """AUROC and average precision of each finding.

    Args:
        scores: finite; higher means more likely present.
        labels: 1 present, 0 absent, NaN unknown (left out for that finding).
        patients: whose film each row is.
    """
    codes, people = patient_codes(patients)
    columns = [
        (np.asarray(scores[:, k], np.float64), np.asarray(labels[:, k], np.float64)) for k in range(labels.shape[1])
    ]
    return (
        tuple(measured_auroc(*column, codes, people) for column in columns),
        tuple(measured_average_precision(*column, codes, people) for column in columns),
    )


def patient_codes(patients: Shaped[np.ndarray, " films"]) -> tuple[Codes, int]:
    """A number from 0 for each film's patient, and how many patients there are."""
    names, codes = np.unique(patients, return_inverse=True)
    return codes, len(names)


def average(measured: Sequence[Measured]) -> Measured:
    """The mean over several measures of the same patients; those that do not exist are left out.

    A finding of too few patients shows too little of its own spread (one patient: none). The variance of its films
    with the finding is drawn towards that of the other findings: theirs for one patient, over as many.
    """
    if not measured:
        return nothing(0)
    defined = [one for one in measured if not math.isnan(one.value)]
    if not defined:
        return nothing(len(measured[0].parts), "no finding with films of both kinds")
    value = float(np.mean([one.value for one in defined]))
    enough = [one for one in defined if one.patients >= FEWEST_PATIENTS]
    if not enough:
        most = max(one.patients for one in defined)
        return Measured(value, defined[0].parts * 0, most, float(most), 1.0, "plain", too_few(most, "with any finding"))
    rare = [one for one in defined if one.patients < FEWEST_PATIENTS]
    of_one = [_spread(one) for one in enough]
    pooled = float(np.average(of_one, weights=[one.effective for one in enough]))
    parts = np.zeros(len(defined[0].parts))
    hidden = sum(one.hidden for one in defined)
    for one in enough:
        parts += one.parts
    for one in rare:
        parts += one.parts - (0 if one.present is None else one.present)
        hidden += _shrunk(one, pooled)
    parts, hidden = parts / len(defined), hidden / len(defined) ** 2
    seen = float(parts @ parts)
    degrees = kurtosis_degrees(parts)
    if seen > 0 and hidden > 0:
        known = sum(one.effective - 1 for one in enough)
        degrees = (seen + hidden) ** 2 / (seen**2 / degrees + hidden**2 / max(known, 1.0))
    scales = {one.scale for one in defined}
    scale: Scale = "logit" if scales <= {"logit", "auroc", "rate"} else "plain"
    most = max(one.patients for one in defined)
    return Measured(value, parts, most, max(one.effective for one in enough), degrees, scale, "", None, hidden)


def minus(first: Measured, second: Measured) -> Measured:
    """The first minus the second on the same patients as one measure, for the mean over the findings."""
    present = None if first.present is None or second.present is None else first.present - second.present
    return replace(
        first,
        value=first.value - second.value,
        parts=first.parts - second.parts,
        patients=min(first.patients, second.patients),
        effective=min(first.effective, second.effective),
        degrees=min(first.degrees, second.degrees),
        scale="plain",
        why=first.why or second.why,
        present=present,
    )


def difference(first: Measured, second: Measured) -> Difference:
    """The first minus the second, of the same patients or others: those in both count for what they add to each."""
    value = first.value - second.value
    why = first.why or second.why
    if math.isnan(value) or why:
        return Difference(Estimate(value, float("nan"), float("nan"), 0, why), float("nan"))
    parts = first.parts - second.parts
    degrees = min(first.degrees, second.degrees)
    variance = float(parts @ parts) + sum(_unseen(one) for one in (first, second))
    return _tested(value, variance, degrees)


def auroc_difference(
    first: Sequence[Numbers], second: Sequence[Numbers], labels: Numbers, codes: Codes, patients: int
) -> Measured:
    """AUROC of the second system minus that of the first on the same films: placements are subtracted film by film.

    Args:
        first, second: scores, one or several of each system (training seeds), whose AUROCs are averaged.
        labels: 1 present, 0 absent, NaN unknown (left out).

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; Obuchowski, Biometrics 53, 1997.
    """
    placed = placements(np.stack([*first, *second], axis=1), labels)
    signs = np.repeat([-1 / len(first), 1 / len(second)], [len(first), len(second)])
    values = np.array([auroc(scores, labels) for scores in (*first, *second)])  # exact in every order of the films
    value = float(values @ signs)
    result = _two_kinds(
        value, placed.present @ signs, placed.absent @ signs, labels, codes, patients, scale="plain", power=0.5
    )
    if not result.why and bool(np.isin(values, (0.0, 1.0)).all()):
        return replace(result, why="both systems separate these films perfectly")
    return result


def against_zero(measured: Measured) -> Difference:
    """A difference that is measured as one, with its test against 0."""
    if math.isnan(measured.value) or measured.why:
        return Difference(measured.estimate, float("nan"))
    return _tested(measured.value, measured.variance, measured.degrees)


def non_inferiority(measured: Measured, margin: float) -> float:
    """One-sided p-value of a difference against being as low as minus the margin; NaN where there is no interval.

    Below 0.025 exactly where the 95 % interval of `against_zero` lies above minus the margin.

    Raises:
        ValueError: if margin is not above 0.
    """
    if margin <= 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    if math.isnan(measured.value) or measured.why:
        return float("nan")
    error = math.sqrt(measured.variance)
    if error == 0:
        return float(measured.value <= -margin)
    return float(stdtr(measured.degrees, -(measured.value + margin) / error))


def paired_by_intervals(first: Measured, second: Measured) -> Difference:
    """The second minus the first on the same films, from both intervals and the correlation of their errors.

    For measures of lopsided intervals, such as average precision.

    Source: Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008.
    """
    value = second.value - first.value
    why = first.why or second.why
    if math.isnan(value) or why:
        return Difference(Estimate(value, float("nan"), float("nan"), 0, why), float("nan"))
    if np.array_equal(first.parts, second.parts) and value == 0:
        return Difference(Estimate(0.0, 0.0, 0.0, 0), 1.0)
    norm = math.sqrt(float(first.parts @ first.parts) * float(second.parts @ second.parts))
    correlation = float(np.clip(first.parts @ second.parts / norm, -1, 1)) if norm > 0 else 0.0
    (low_1, high_1), (low_2, high_2) = first.interval(), second.interval()
    below = _side(second.value - low_2, high_1 - first.value, correlation)
    above = _side(high_2 - second.value, first.value - low_1, correlation)
    degrees = min(first.degrees, second.degrees)
    towards_zero = below if value > 0 else above
    p_value = float("nan")
    if value == 0:
        p_value = 1.0
    elif towards_zero > 0:
        p_value = float(2 * stdtr(degrees, -abs(value) / towards_zero * stdtrit(degrees, 0.975)))
    return Difference(Estimate(value, value - below, value + above, 0), p_value)


def _side(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other))


def _tested(value: float, variance: float, degrees: float) -> Difference:
    if variance == 0:
        return Difference(Estimate(value, value, value, 0), 1.0 if value == 0 else float("nan"))
    error = math.sqrt(variance)
    reach = float(stdtrit(degrees, 0.975)) * error
    return Difference(Estimate(value, value - reach, value + reach, 0), float(2 * stdtr(degrees, -abs(value) / error)))


def _unseen(one: Measured) -> float:
    """Variance that `parts` do not show; of films that all agree as if their exact interval were 3.92 errors wide."""
    if not one.unanimous:
        return one.hidden
    low, high = one.interval()
    return ((high - low) / 1.96) ** 2


def _spread(one: Measured) -> float:
    """The variance that one patient with the finding has, in units of `_width`."""
    present = one.parts if one.present is None else one.present
    width = _width(one)
    return float(present @ present) * one.effective / width if width > 0 else 0.0


def _shrunk(one: Measured, pooled: float) -> float:
    """The variance from the films with a rare finding: its own, and the other findings' as if of two patients more."""
    usual = pooled * _width(one) / max(one.effective, 1.0)
    own = usual if one.present is None else float(one.present @ one.present)
    seen = max(one.effective - 1, 0.0)
    return (seen * own + _PRIOR_PATIENTS * usual) / (seen + _PRIOR_PATIENTS)


def _width(one: Measured) -> float:
    """In what the variances of different findings are alike: an average precision near 0 has a small one."""
    return one.value * (1 - one.value) if one.scale == "logit" else 1.0


def _two_kinds(
    value: float,
    of_present: Shaped[np.ndarray, " present"],
    of_absent: Shaped[np.ndarray, " absent"],
    labels: Numbers,
    codes: Codes,
    patients: int,
    *,
    scale: Scale,
    power: float = 1.0,
) -> Measured:
    """A measure that is linear, to first order, in a number per film with and a number per film without the finding."""
    people = {kind: len(np.unique(codes[labels == kind])) for kind in (1, 0)}
    if math.isnan(value):
        return nothing(patients, f"no film {'without' if people[1] else 'with'} the finding")
    why = too_few(people[1], "with the finding") or too_few(people[0], "without the finding")
    present, _, effective = _per_patient(of_present - value, codes[labels == 1], patients, power)
    absent, _, others = _per_patient(of_absent - value, codes[labels == 0], patients, power)
    parts = present + absent
    degrees = _degrees([(present, effective), (absent, others)], parts)
    fewest, fewest_effective = min(people.values()), min(effective, others)
    return Measured(value, parts, fewest, fewest_effective, degrees, scale, why, present)


def _per_patient(
    values: Shaped[np.ndarray, " some"], codes: Codes, patients: int, power: float = 1.0
) -> tuple[Parts, int, float]:
    """Each patient's influence on the mean of values that are already measured from it, how many, how many effective.

    The more of the films a patient has, the closer it draws the mean to itself; dividing by what the others have
    makes up for that (power 1: as the jackknife, 0.5: unbiased for equal spread).

    Source: Bell and McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage samples",
        Survey Methodology 28, 2002.
    """
    films = np.bincount(codes, minlength=patients)
    if not len(codes):
        return np.zeros(patients), 0, 0.0
    proportion = films / len(codes)
    sums = np.bincount(codes, values, minlength=patients) / len(codes)
    rest = np.maximum(1 - proportion, 1e-12) ** power
    return (
        np.asarray(sums / rest, dtype=np.float64),
        int((films > 0).sum()),
        float(1 / (proportion @ proportion)),
    )


def _degrees(kinds: Sequence[tuple[Parts, float]], parts: Parts) -> float:
    """Degrees of freedom of a variance: Satterthwaite's for the two kinds, or fewer where few patients carry most.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics 2, 1946.
    """
    variances = [float(part @ part) for part, _ in kinds]
    below = sum(
        variance**2 / max(effective - 1, 0.5) for variance, (_, effective) in zip(variances, kinds, strict=True)
    )
    if below == 0:  # all films agree
        return max(1.0, min(effective for _, effective in kinds) - 1)
    return min(sum(variances) ** 2 / below, kurtosis_degrees(parts))


def kurtosis_degrees(parts: Parts) -> float:
    """Degrees of freedom of a sum of squares of parts: 3 (sum of squares)^2 / sum of fourth powers, less one."""
    squares = parts**2
    fourth = float(squares @ squares)
    return max(1.0, 3 * float(squares.sum()) ** 2 / fourth - 1) if fourth > 0 else 1.0


def _score_interval(value: float, reach: float) -> tuple[float, float]:
    """Values from which `value` is `reach` away, in errors that shrink towards 0 and 1.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2",
        Statistics in Medicine 25, 2006 (the error taken where the truth is, not where the estimate is).
    """
    own = (value * (1 - value)) ** _SCORE_POWER
    ends = []
    for border in (0.0, 1.0):
        outside, inside = border, value
        for _ in range(60):
            middle = (outside + inside) / 2
            if abs(value - middle) * own > reach * (middle * (1 - middle)) ** _SCORE_POWER:
                outside = middle
            else:
                inside = middle
        ends.append(inside)
    return ends[0], ends[1]


def _rate_interval(rate: Measured, level: float) -> tuple[float, float]:
    """Jeffreys' interval for as many independent films as would have this variance."""
    films = effective_films(rate)
    tail = (1 - level) / 2
    hits = rate.value * films
    return (
        float(betaincinv(hits + 0.5, films - hits + 0.5, tail)),
        float(betaincinv(hits + 0.5, films - hits + 0.5, 1 - tail)),
    )


def effective_films(rate: Measured) -> float:
    """How many independent films would have the variance of this proportion, and a known one.

    Patients who all have the same proportion show no variance: then there are no more of them than patients.
    """
    if rate.variance == 0:
        return rate.effective
    of_t = 1.959964 / float(stdtrit(max(rate.degrees, 1.0), 0.975))
    return rate.value * (1 - rate.value) / rate.variance * of_t**2
