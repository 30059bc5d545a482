"""How well scores rank films with a finding above films without it: AUROC, average precision and the ROC curve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.special import ndtr

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


class DelongTest(NamedTuple):
    """DeLong's test of one finding, which takes every film for independent: several films of a patient make it bold."""

    difference: float
    standard_error: float
    p_value: float


@dataclass(frozen=True)
class Placements:
    """For each film, the share of the other class's films that it stands on the right side of; a tie counts one half.

    Their means are the AUROCs. One finding, a column per system.
    """

    present: Float64[np.ndarray, "present systems"]
    absent: Float64[np.ndarray, "absent systems"]

    @property
    def auroc(self) -> Float64[np.ndarray, " systems"]:
        """NaN where the films are of one class."""
        if not len(self.present) or not len(self.absent):
            return np.full(self.present.shape[1], np.nan)
        return np.asarray(self.present.mean(axis=0), dtype=np.float64)

    @property
    def covariance(self) -> Float64[np.ndarray, "systems systems"]:
        """DeLong's estimate for the AUROCs, of independent films; NaN with fewer than two films of either class."""
        if len(self.present) < 2 or len(self.absent) < 2:
            return np.full((self.present.shape[1],) * 2, np.nan)
        parts = (np.atleast_2d(np.cov(part, rowvar=False)) / len(part) for part in (self.present, self.absent))
        return np.asarray(sum(parts), dtype=np.float64)

    def test(self, first: int, second: int) -> DelongTest:
        """Two-sided test that two systems have one AUROC. If their difference cannot vary, p is 1 at 0, NaN elsewhere.

        The variance is that of the differences, not a sum of large terms: it is exactly 0 for equal systems.
        """
        gained = Placements(*(part[:, [second]] - part[:, [first]] for part in (self.present, self.absent)))
        difference, error = float(gained.auroc[0]), float(np.sqrt(gained.covariance[0, 0]))
        if error > 0:
            return DelongTest(difference, error, float(2 * ndtr(-abs(difference) / error)))
        return DelongTest(difference, error, 1.0 if error == 0 and difference == 0 else float("nan"))


def placements(scores: Table, labels: Values) -> Placements:
    """The placements of one finding's films, from midranks: the time of a sort instead of a pass over all pairs.

    Args:
        scores: films x systems, finite.
        labels: of the same films: 1 present, 0 absent, NaN unknown (left out).

    Raises:
        ValueError: if the two differ in length, or a score is not finite.

    Source: DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated ROC curves",
        Biometrics 44, 1988; Sun and Xu, "Fast implementation of DeLong's algorithm", IEEE SPL 21, 2014.
    """
    truth = np.asarray(labels, dtype=np.float64)
    if len(truth) != len(scores):
        raise ValueError(f"scores and labels must be of one length, got {len(scores)} and {len(truth)}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite, got NaN or an infinite one")
    present, absent = (np.asarray(scores, dtype=np.float64)[truth == value] for value in (1, 0))
    from scipy.stats import rankdata  # here, because it takes a second to import and scoring films needs none of it

    of_all = rankdata(np.concatenate([present, absent]), axis=0)
    below_present = of_all[: len(present)] - rankdata(present, axis=0)  # films without the finding below each with it
    below_absent = of_all[len(present) :] - rankdata(absent, axis=0)
    return Placements(below_present / max(len(absent), 1), 1 - below_absent / max(len(present), 1))
