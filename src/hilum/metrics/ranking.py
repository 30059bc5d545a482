"""How well scores rank films with a finding above films without it: AUROC, average precision and the ROC curve."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

# Scores and labels leave their sizes open ("_"): unequal ones get a ValueError in the caller's words.
Values = Shaped[np.ndarray, " _"] | Sequence[float | int | bool]  # a value per film
Table = Shaped[np.ndarray, "_ _"]  # films x findings
PerFinding = Float64[np.ndarray, " findings"]
Points = Float64[np.ndarray, " points"]


class RocCurve(NamedTuple):
    """A point per distinct score, from (0, 0) at an infinite threshold to (1, 1); a rate of an absent class is NaN."""

    false_positive_rate: Points
    true_positive_rate: Points
    thresholds: Points


class _Above(NamedTuple):
    """For each distinct score, from the highest down: how many films reach it. Ties share one entry."""

    present: Points
    absent: Points
    thresholds: Points


def auroc(scores: Values, labels: Values) -> float:
    """The probability that a film with the finding scores above one without it; a tie counts one half.

    NaN if the known labels are of one class. Films whose label is NaN are left out.

    Args:
        scores: any finite numbers of which a higher one means more likely present: scores, logits, ranks.
        labels: 1 present, 0 absent, NaN unknown.

    Raises:
        ValueError: if the two differ in length, a score is not finite or a label is none of 0, 1 and NaN.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143, 1982.
    """
    above = _films_above(*_known(scores, labels))
    if not _two_classes(above):
        return float("nan")
    steps = np.diff(above.absent, prepend=0.0)
    present_before = np.concatenate([[0.0], above.present[:-1]])
    pairs = np.sum(steps * (above.present + present_before)) / 2  # whole and half numbers: exact
    return float(pairs / (above.present[-1] * above.absent[-1]))


def average_precision(scores: Values, labels: Values) -> float:
    """The precision at each threshold, weighted by the recall gained there; not interpolated.

    NaN if the known labels are of one class, also where all are present: there is nothing to rank. Films whose label
    is NaN are left out. Arguments and errors as for `auroc`.
    """
    above = _films_above(*_known(scores, labels))
    if not _two_classes(above):
        return float("nan")
    gained = np.diff(above.present, prepend=0.0) / above.present[-1]
    return float(np.sum(gained * above.present / (above.present + above.absent)))


def roc_curve(scores: Values, labels: Values) -> RocCurve:
    """False and true positive rate at every distinct score. Arguments and errors as for `auroc`."""
    above = _films_above(*_known(scores, labels))
    return RocCurve(
        _rate(np.concatenate([[0.0], above.absent])),
        _rate(np.concatenate([[0.0], above.present])),
        np.concatenate([[np.inf], above.thresholds]),
    )


def thin(curve: RocCurve, points: int) -> RocCurve:
    """The same curve with at most so many points, evenly spaced along it; both ends stay.

    Raises:
        ValueError: if points is below 2.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    if len(curve.thresholds) <= points:
        return curve
    length = np.nan_to_num(curve.false_positive_rate) + np.nan_to_num(curve.true_positive_rate)
    wanted = np.linspace(0.0, length[-1], points)
    keep = np.unique(np.searchsorted(length, wanted, side="left").clip(max=len(length) - 1))
    keep = np.unique(np.concatenate([[0], keep, [len(length) - 1]]))
    if len(keep) > points:  # the forced last point may be one more than asked
        keep = np.delete(keep, -2)
    return RocCurve(curve.false_positive_rate[keep], curve.true_positive_rate[keep], curve.thresholds[keep])


def auroc_per_finding(scores: Table, labels: Table) -> PerFinding:
    """`auroc` of each column; NaN where it is undefined."""
    return _per_finding(auroc, scores, labels)


def average_precision_per_finding(scores: Table, labels: Table) -> PerFinding:
    """`average_precision` of each column; NaN where it is undefined."""
    return _per_finding(average_precision, scores, labels)


def _per_finding(measure: Callable[[Values, Values], float], scores: Table, labels: Table) -> PerFinding:
    if scores.shape != labels.shape:
        raise ValueError(f"scores and labels must have one shape, got {scores.shape} and {labels.shape}")
    return np.array([measure(scores[:, i], labels[:, i]) for i in range(scores.shape[1])], dtype=np.float64)


def _known(scores: Values, labels: Values) -> tuple[Float64[np.ndarray, " known"], Shaped[np.ndarray, " known"]]:
    """The finite scores of the films whose label is known, and whether the finding is present there."""
    numbers, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if numbers.ndim != 1 or numbers.shape != truth.shape:
        raise ValueError(f"scores and labels must be of one length, got shapes {numbers.shape} and {truth.shape}")
    if not np.isfinite(numbers).all():
        first = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"scores must be finite, got {numbers[first]} at index {first}")
    known = ~np.isnan(truth)
    wrong = known & (truth != 0) & (truth != 1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"labels must be 0, 1 or NaN, got {truth[first]} at index {first}")
    return numbers[known], truth[known] == 1


def _films_above(scores: Float64[np.ndarray, " known"], present: Shaped[np.ndarray, " known"]) -> _Above:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.intp)
    reached = np.cumsum(present[order], dtype=np.float64)[last_of_tie]
    return _Above(reached, last_of_tie + 1.0 - reached, ranked[last_of_tie])


def _two_classes(above: _Above) -> bool:
    return len(above.present) > 0 and bool(above.present[-1] > 0 and above.absent[-1] > 0)


def _rate(reached: Points) -> Points:
    return reached / reached[-1] if reached[-1] else np.full_like(reached, np.nan)
