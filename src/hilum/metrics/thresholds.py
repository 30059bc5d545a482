"""Choose thresholds by a rule, with their interval; predictive values at another prevalence."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from scipy.special import betainc, expit

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.influence import Codes, Measured, effective_films, measured_mean, patient_codes, too_few
from hilum.metrics.operating_points import Rule

Numbers = Float64[np.ndarray, " films"]
PerThreshold = Float64[np.ndarray, " thresholds"]

_YOUDEN_ERRORS = 1.4
"""So many errors below its maximum sensitivity + specificity may lie where 95 % of the bands hold the threshold of all
patients: from simulation (benchmarks/coverage.py), because the maximum is not normal."""


class Threshold(NamedTuple):
    """A film is called if its score is at least `value`, and indeterminate from `low` to below `high`.

    The band is the 95 % interval of the threshold: where that of all such patients may lie. An end to which these
    films give no bound is infinite; `why` says so where neither end has one.
    """

    value: float
    low: float
    high: float
    why: str = ""


def choose(scores: Numbers, labels: Numbers, patients: Shaped[np.ndarray, " films"], rule: Rule) -> Threshold | None:
    """The threshold of one finding by a rule; None if the films do not show what the rule asks for.

    Candidates are the films' scores, and a number just above them all, at which no film is called. The band holds every
    threshold at which these films do not rule out that the rule is met: whose sensitivity, specificity or positive
    calls may be the ones asked for, or whose sum of both may be the largest.

    Args:
        scores: finite; of validation films.
        labels: 1 present, 0 absent, NaN unknown (left out).
        patients: whose film each is.

    Source: Youden, "Index for rating diagnostic tests", Cancer 3, 1950; Woodruff, "Confidence intervals for medians and
        other position measures", JASA 47, 1952 (band); Kim and Pollard, "Cube root asymptotics", Annals of Statistics
        18, 1990 (why Youden's needs its own).
    """
    known = ~np.isnan(labels)
    kept, present = scores[known], labels[known] == 1
    if not len(kept) or (rule.name in ("youden", "sensitivity") and not present.any()):
        return None
    if rule.name in ("youden", "specificity") and present.all():
        return None
    levels = np.unique(kept)[::-1]
    thresholds = np.concatenate([[np.nextafter(np.float32(levels[0]), np.float32(np.inf), dtype=np.float32)], levels])
    thresholds[0] = max(thresholds[0], np.nextafter(levels[0], np.inf))
    row = np.searchsorted(-thresholds, -kept)
    hits, false_positives = (
        np.cumsum(np.bincount(row[kind], minlength=len(thresholds))) for kind in (present, ~present)
    )
    place = _chosen(hits.astype(np.float64), false_positives.astype(np.float64), rule)
    codes = patient_codes(patients)[0][known]
    why = _too_few(rule, present, codes)
    if why:
        return Threshold(float(thresholds[place]), -np.inf, np.inf, why)
    if rule.name == "youden":
        accepted = _youden_set(row, present, codes, place, len(thresholds))
    else:
        accepted = _quantile_set(row, present, codes, place, len(thresholds), rule)
    accepted[place] = True
    low, high = _ends(accepted, thresholds)
    value = float(thresholds[place])
    return Threshold(value, min(value, low), max(value, high))


def _too_few(rule: Rule, present: Bool[np.ndarray, " films"], codes: Codes) -> str:
    """Why there is no band, or empty."""
    with_it, without = (len(np.unique(codes[kind])) for kind in (present, ~present))
    needs_present, needs_absent = rule.name in ("youden", "sensitivity"), rule.name in ("youden", "specificity")
    return (
        (too_few(with_it, "with the finding") if needs_present else "")
        or (too_few(without, "without the finding") if needs_absent else "")
        or too_few(len(np.unique(codes)), "here")
    )


def _ends(accepted: Bool[np.ndarray, " thresholds"], thresholds: PerThreshold) -> tuple[float, float]:
    """The lowest and highest thresholds that are accepted; rates are the same down to the next score."""
    rows = np.flatnonzero(accepted)
    first, last = int(rows[0]), int(rows[-1])
    low = float(thresholds[last + 1]) if last + 1 < len(thresholds) else -np.inf
    return low, float(thresholds[first]) if first else np.inf


def _quantile_set(
    row: Shaped[np.ndarray, " films"],
    present: Bool[np.ndarray, " films"],
    codes: Codes,
    place: int,
    thresholds: int,
    rule: Rule,
) -> Bool[np.ndarray, " thresholds"]:
    """Thresholds whose rate may be the one aimed at; where one end has no bound, all error is on the other."""
    among = {"sensitivity": present, "specificity": ~present, "alarms": np.ones(len(present), dtype=bool)}[rule.name]
    aim = {"sensitivity": rule.aim, "specificity": 1 - rule.aim, "alarms": rule.aim / 100}[rule.name]
    called = np.cumsum(np.bincount(row[among], minlength=thresholds)) / among.sum()
    at = measured_mean((row[among] <= place).astype(np.float64), codes[among], int(codes.max()) + 1, scale="rate")
    films = at.effective if at.unanimous or at.variance == 0 else effective_films(at)
    films = min(films, float(among.sum()))
    below = betainc(called * films + 0.5, films - called * films + 0.5, aim)  # that the rate lies below the aim
    tail = 0.025
    if below[-1] >= tail or below[0] <= 1 - tail:
        tail = 0.05
    return np.asarray(
        (below >= (tail if below[-1] < tail else 0)) & (below <= (1 - tail if below[0] > 1 - tail else 1))
    )


def _youden_set(
    row: Shaped[np.ndarray, " films"],
    present: Bool[np.ndarray, " films"],
    codes: Codes,
    place: int,
    thresholds: int,
) -> Bool[np.ndarray, " thresholds"]:
    """Thresholds whose sensitivity + specificity is not clearly below the largest.

    Error: of the difference from the largest, which films between the two thresholds make, summed per patient.
    """
    weight = np.where(present, 1 / present.sum(), -1 / (~present).sum())
    lower, upper = row > place, row <= place
    added, error = _passed(row[lower] - place, weight[lower], codes[lower], thresholds - place)
    taken, error_above = _passed(place - row[upper] + 1, weight[upper], codes[upper], place + 1)
    lost = np.concatenate([taken[:0:-1], [0.0], -added[1:]])
    errors = np.concatenate([error_above[:0:-1], [0.0], error[1:]])
    unseen = 1 / present.sum() ** 2  # where no film with the finding lies, one more might
    return np.asarray(lost <= _YOUDEN_ERRORS * np.sqrt(errors**2 + unseen))


def _passed(
    steps: Shaped[np.ndarray, " films"], weight: Numbers, codes: Codes, number: int
) -> tuple[Float64[np.ndarray, " steps"], Float64[np.ndarray, " steps"]]:
    """The weight of the films up to each step, and its error: the root of the sum of the patients' squares."""
    order = np.lexsort([steps, codes])
    people, there, added = codes[order], steps[order], weight[order]
    running = np.cumsum(added)
    first = np.flatnonzero(np.diff(people, prepend=-1))
    before = np.repeat(running[first] - added[first], np.diff(np.append(first, len(people))))
    squares = 2 * (running - before) * added - added**2  # (a patient's weight so far)^2 less what it was
    gained, error = (np.cumsum(np.bincount(there, values, minlength=number)) for values in (added, squares))
    return gained, np.sqrt(np.maximum(error, 0.0))


def _chosen(hits: PerThreshold, false_positives: PerThreshold, rule: Rule) -> int:
    """The row that the rule takes; of equally good ones the highest threshold."""
    all_present, all_absent = hits[-1], false_positives[-1]
    match rule.name:
        case "youden":
            return int(np.argmax(hits * all_absent - false_positives * all_present))
        case "sensitivity":
            return int(np.argmax(hits >= rule.aim * all_present - 1e-9))
        case "specificity":
            allowed = false_positives <= (1 - rule.aim) * all_absent + 1e-9
        case "alarms":
            allowed = hits + false_positives <= rule.aim / 100 * (all_present + all_absent) + 1e-9
    return int(allowed.sum() - 1)  # from the top down, what is allowed comes first


def predictive_values(
    sensitivity: Shaped[np.ndarray, "*shape"], specificity: Shaped[np.ndarray, "*shape"], prevalence: float
) -> tuple[Shaped[np.ndarray, "*shape"], Shaped[np.ndarray, "*shape"]]:
    """PPV and NPV of this sensitivity and specificity at another prevalence; NaN where there is no such film.

    Raises:
        ValueError: if prevalence is not in (0, 1).
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence must be in (0, 1), got {prevalence}")
    hits, false_positives = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    misses, cleared = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    values = []
    for part, other in ((hits, false_positives), (cleared, misses)):
        whole = np.asarray(part + other)
        values.append(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
    return values[0], values[1]


def predictive_estimates(sensitivity: Measured, specificity: Measured, prevalence: float) -> tuple[Estimate, Estimate]:
    """PPV and NPV at another prevalence, with 95 % intervals from both rates' own intervals and their correlation.

    Where one of the two rates is 0 or 1, from the ends of both intervals at once, which is wider.

    Raises:
        ValueError: if prevalence is not in (0, 1).

    Source: Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008
        (limits of log sensitivity - log (1 - specificity), and of log specificity - log (1 - sensitivity)).
    """
    values = _predicted(sensitivity.value, specificity.value, prevalence)
    why = sensitivity.why or specificity.why
    if why or np.isnan([sensitivity.value, specificity.value]).any():
        ppv, npv = (Estimate(value, float("nan"), float("nan"), 0, why) for value in values)
        return ppv, npv
    (low_1, high_1), (low_2, high_2) = sensitivity.interval(), specificity.interval()
    lows, highs = _predicted(low_1, low_2, prevalence), _predicted(high_1, high_2, prevalence)
    if sensitivity.unanimous or specificity.unanimous:
        ppv, npv = (Estimate(*ends, 0) for ends in zip(values, lows, highs, strict=True))
        return ppv, npv
    norm = np.sqrt(sensitivity.variance * specificity.variance)
    together = float(np.clip(sensitivity.parts @ specificity.parts / norm, -1, 1)) if norm > 0 else 0.0
    rates = (sensitivity.value, low_1, high_1), (specificity.value, low_2, high_2)
    odds = prevalence / (1 - prevalence)
    return (
        _of_odds(values[0], _log_ratio(rates[0], rates[1], together), odds),
        _of_odds(values[1], _log_ratio(rates[1], rates[0], together), 1 / odds),
    )


def _predicted(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    ppv, npv = predictive_values(np.array(sensitivity), np.array(specificity), prevalence)
    return float(ppv), float(npv)


def _log_ratio(
    rate: tuple[float, float, float], other: tuple[float, float, float], together: float
) -> tuple[float, float, float]:
    """Log (rate / (1 - other)), and how far its lower and upper limit lie from it.

    Args:
        rate, other: value, low and high end of each.
        together: correlation of the errors of the two.
    """
    value, low, high = np.log(rate)
    wrong, wrong_high, wrong_low = np.log1p(-np.array(other))
    below, above = (
        float(np.sqrt(max(0.0, one**2 + two**2 + 2 * together * one * two)))
        for one, two in ((value - low, wrong_high - wrong), (high - value, wrong - wrong_low))
    )
    return float(value - wrong), below, above


def _of_odds(value: float, log_ratio: tuple[float, float, float], odds: float) -> Estimate:
    ratio, below, above = log_ratio
    low, high = expit(np.log(odds) + ratio + np.array([-below, above]))
    return Estimate(value, min(value, float(low)), max(value, float(high)), 0)
