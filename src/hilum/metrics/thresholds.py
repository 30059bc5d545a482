"""Choose thresholds by a rule, with their interval; predictive values at another prevalence."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from hilum.metrics.bootstrap import patient_counts
from hilum.metrics.operating_points import Rule

Numbers = Float64[np.ndarray, " films"]
PerThreshold = Float64[np.ndarray, "thresholds draws"]

_CHUNK_NUMBERS = 2_000_000
"""Thresholds x draws that are looked at together."""


class Threshold(NamedTuple):
    """A film is called if its score is at least `value`; from `low` to below `high` it is indeterminate.

    The band is the threshold's 95 % interval over patient-clustered bootstrap samples.
    """

    value: float
    low: float
    high: float


def choose(
    scores: Numbers, labels: Numbers, patients: Shaped[np.ndarray, " films"], rule: Rule, *, draws: int, seed: int
) -> Threshold | None:
    """The threshold of one finding by a rule; None if the films do not show what the rule asks for.

    Candidates are the films' scores, and a number just above them all, at which no film is called.

    Args:
        scores: finite; of validation films.
        labels: 1 present, 0 absent, NaN unknown (left out).
        patients: whose film each is.
        draws: patient-clustered bootstrap samples, for the band.

    Source: Youden, "Index for rating diagnostic tests", Cancer 3, 1950.
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
    ones = np.ones((len(kept), 1))
    value = float(thresholds[_chosen(*_called(row, present, ones, len(thresholds)), rule)[0]])
    names, codes = np.unique(patients, return_inverse=True)
    chunk = max(1, _CHUNK_NUMBERS // len(thresholds))
    drawn = []
    for counts in patient_counts(len(names), draws=draws, seed=seed, chunk=chunk):
        weights = counts[codes[known]].astype(np.float64)
        positives, negatives = weights[present].sum(axis=0), weights[~present].sum(axis=0)
        needed = {"youden": (positives > 0) & (negatives > 0), "sensitivity": positives > 0}.get(
            rule.name, negatives > 0 if rule.name == "specificity" else positives + negatives > 0
        )
        drawn.append(thresholds[_chosen(*_called(row, present, weights[:, needed], len(thresholds)), rule)])
    found = np.concatenate(drawn)
    low, high = np.quantile(found, [0.025, 0.975], method="nearest") if len(found) else (value, value)
    return Threshold(value, min(value, float(low)), max(value, float(high)))


def _called(
    row: Shaped[np.ndarray, " films"],
    present: Shaped[np.ndarray, " films"],
    weights: Float64[np.ndarray, "films draws"],
    thresholds: int,
) -> tuple[PerThreshold, PerThreshold]:
    """Films with and films without the finding that reach each threshold, from the highest down."""
    counted = []
    for chosen in (present, ~present):
        at = np.zeros((thresholds, weights.shape[1]))
        np.add.at(at, row[chosen], weights[chosen])
        counted.append(np.cumsum(at, axis=0))
    return counted[0], counted[1]


def _chosen(hits: PerThreshold, false_positives: PerThreshold, rule: Rule) -> Shaped[np.ndarray, " draws"]:
    """The row that the rule takes in each draw; of equally good ones the highest threshold."""
    all_present, all_absent = hits[-1], false_positives[-1]
    match rule.name:
        case "youden":
            return np.asarray(np.argmax(hits * all_absent - false_positives * all_present, axis=0))
        case "sensitivity":
            return np.asarray(np.argmax(hits >= rule.aim * all_present - 1e-9, axis=0))
        case "specificity":
            allowed = false_positives <= (1 - rule.aim) * all_absent + 1e-9
        case "alarms":
            allowed = hits + false_positives <= rule.aim / 100 * (all_present + all_absent) + 1e-9
    return np.asarray(allowed.sum(axis=0) - 1)  # from the top down, what is allowed comes first


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
