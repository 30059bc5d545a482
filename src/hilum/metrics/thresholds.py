"""Choose thresholds by a rule, with their interval; predictive values at another prevalence."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from scipy.special import betainc

from hilum.metrics.influence import Codes, effective_films, measured_mean, patient_codes, too_few
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
