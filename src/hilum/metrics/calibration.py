"""Whether a score of 0.3 means 30 of 100 films: calibration error, Brier score and the reliability table."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped

from hilum.metrics.bootstrap import Estimate, PerDraw, estimate
from hilum.metrics.scaling import logit, platt_line, sigmoid
from hilum.metrics.sums import SumsPerDraw, quotient, resampled_sums, share

Numbers = Float64[np.ndarray, " films"]

BINS = 10


class Bin(NamedTuple):
    """Films with neighbouring scores."""

    lowest: float
    highest: float
    mean_score: float
    present: Estimate  # share of its films with the finding
    films: int
    patients: int
    positives: int


class Measured(NamedTuple):
    """A measure on all films and in each resample of their patients."""

    value: float
    per_draw: PerDraw

    @property
    def estimate(self) -> Estimate:
        """With its 95 % interval."""
        return estimate(self.value, self.per_draw)


@dataclass(frozen=True)
class Calibration:
    """One finding's calibration; all NaN if no label is known.

    Attributes:
        ece: expected calibration error: distance of mean score and share present, averaged over the films' bins. It
            is never 0 on few films: set it beside `ece_by_chance`. Each resample adds as much chance again, so its
            draws are moved until their mean is the value.
        ece_by_chance: the error that perfectly calibrated scores would show on as many independent films.
        brier: mean squared distance of score and label.
        brier_skill: 1 - brier / that of the same score for every film, the share present; NaN for one class.
        excess: mean score minus share present; above 0 the scores are too high on the whole.
        slope: of the labels' logistic regression on the scores' logits: 1 if calibrated, below 1 if the scores are too
            extreme; NaN for one class, or where a score is exactly 0 or 1.
        bins: the reliability table, from low scores to high.
    """

    ece: Measured
    ece_by_chance: Estimate
    brier: Measured
    brier_skill: Measured
    excess: Measured
    slope: Measured
    bins: tuple[Bin, ...]


def calibration(
    scores: Numbers, labels: Numbers, patients: Shaped[np.ndarray, " films"], *, draws: int, seed: int, bins: int = BINS
) -> Calibration:
    """Measure one finding's calibration, with 95 % intervals from resampled patients.

    Args:
        scores: in [0, 1].
        labels: 1 present, 0 absent, NaN unknown (left out).
        patients: whose film each is.
        draws: number of resamples; those of `bootstrap` with the same patients and seed.
        bins: of equally many films; fewer where scores tie, since equal scores share a bin.

    Raises:
        ValueError: if a score is outside [0, 1] or bins is below 1.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015
        (expected calibration error); Cox, "Two further applications of a model for binary regression", Biometrika 45,
        1958 (slope).
    """
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must be in [0, 1] for calibration, got others")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    known = ~np.isnan(labels)
    truth = np.where(known, labels, 0.0)
    place = np.full(len(scores), -1)
    place[known] = equal_bins(scores[known], bins)
    count = int(place.max(initial=-1)) + 1
    member = (place[:, np.newaxis] == np.arange(count)).astype(np.float64)
    squared = np.where(known, (scores - truth) ** 2, 0.0)
    slope, steps = _slope(scores, truth, known)
    columns = [member, member * scores[:, np.newaxis], member * truth[:, np.newaxis], squared[:, np.newaxis], steps]
    per_film = np.hstack(columns)
    everything = per_film.sum(axis=0, keepdims=True)
    drawn = resampled_sums(per_film, patients, draws=draws, seed=seed)
    (ece, brier, skill, excess), in_draws = (_measures(sums, count) for sums in (everything, drawn))
    by_chance = _by_chance(everything[0, :count], everything[0, count : 2 * count], draws, seed)
    return Calibration(
        ece=Measured(float(ece[0]), _centred(in_draws[0], float(ece[0]))),
        ece_by_chance=estimate(float(by_chance.mean()), by_chance),
        brier=Measured(float(brier[0]), in_draws[1]),
        brier_skill=Measured(float(skill[0]), in_draws[2]),
        excess=Measured(float(excess[0]), in_draws[3]),
        slope=Measured(slope, _slope_per_draw(slope, drawn[:, 3 * count + 1 :])),
        bins=tuple(_bin(k, count, scores, place, patients, everything[0], drawn) for k in range(count)),
    )


def equal_bins(scores: Shaped[np.ndarray, " films"], bins: int) -> Int[np.ndarray, " films"]:
    """The bin of each film, counted from the lowest scores: equally many films in each, equal scores in the same."""
    ranked = np.sort(scores)
    first_of_tie = np.searchsorted(ranked, scores, side="left")
    places: Int[np.ndarray, " films"] = np.unique(first_of_tie * bins // max(len(scores), 1), return_inverse=True)[1]
    return places


def _measures(sums: SumsPerDraw, count: int) -> tuple[PerDraw, PerDraw, PerDraw, PerDraw]:
    """Calibration error, Brier score, its skill and excess, for each row of sums."""
    films, scores, present = (sums[:, i * count : (i + 1) * count] for i in range(3))
    whole = films.sum(axis=1)
    prevalence = quotient(present.sum(axis=1), whole)
    brier = quotient(sums[:, 3 * count], whole)
    return (
        quotient(np.abs(scores - present).sum(axis=1), whole),
        brier,
        1 - quotient(brier, prevalence * (1 - prevalence)),
        quotient((scores - present).sum(axis=1), whole),
    )


def _centred(per_draw: PerDraw, value: float) -> PerDraw:
    """Draws of a measure that cannot be below 0, moved so that their mean is the value."""
    defined = per_draw[~np.isnan(per_draw)]
    if not len(defined):
        return per_draw
    moved: PerDraw = np.maximum(per_draw - defined.mean() + value, 0)
    return moved


def _by_chance(
    films: Float64[np.ndarray, " bins"], scores: Float64[np.ndarray, " bins"], draws: int, seed: int
) -> PerDraw:
    """Calibration errors of labels that are drawn from the bins' mean scores."""
    if not len(films):
        return np.full(draws, np.nan)
    rates = np.clip(scores / films, 0, 1)  # a mean of ones may exceed 1 by a rounding
    generator = np.random.default_rng(seed)
    present = generator.binomial(films.astype(np.int64), rates, size=(draws, len(films)))
    errors: PerDraw = np.abs(present - scores).sum(axis=1) / films.sum()
    return errors


def _slope(
    scores: Numbers, truth: Numbers, known: Shaped[np.ndarray, " films"]
) -> tuple[float, Float64[np.ndarray, "films 5"]]:
    """The slope on all films, and what a Newton step from it needs per film: two gradients, three curvatures."""
    present = truth[known] == 1
    strict = ((scores[known] > 0) & (scores[known] < 1)).all()
    if present.all() or not present.any() or not strict:
        return float("nan"), np.zeros((len(scores), 5))
    logits = np.zeros(len(scores))
    logits[known] = logit(scores[known])
    slope, intercept = platt_line(logits[known], present.astype(np.float64))
    expected = sigmoid(slope * logits + intercept)
    missed, weight = np.where(known, truth - expected, 0.0), np.where(known, expected * (1 - expected), 0.0)
    return slope, np.stack([missed * logits, missed, weight * logits**2, weight * logits, weight], axis=1)


def _slope_per_draw(slope: float, sums: SumsPerDraw) -> PerDraw:
    """The slope in each resample, by one Newton step from that on all films; NaN where it cannot be told."""
    missed_logits, missed, square, cross, weight = sums.T
    determinant = square * weight - cross**2
    step: PerDraw = np.divide(
        weight * missed_logits - cross * missed,
        determinant,
        out=np.full(len(sums), np.nan),
        where=determinant > 1e-12 * np.abs(square * weight),
    )
    return slope + step


def _bin(
    k: int,
    count: int,
    scores: Numbers,
    place: Int[np.ndarray, " films"],
    patients: Shaped[np.ndarray, " films"],
    everything: Float64[np.ndarray, " columns"],
    drawn: SumsPerDraw,
) -> Bin:
    here = place == k
    films, positives, people = everything[k], everything[2 * count + k], len(np.unique(patients[here]))
    return Bin(
        lowest=float(scores[here].min()),
        highest=float(scores[here].max()),
        mean_score=float(scores[here].mean()),
        present=share(positives, films, drawn[:, 2 * count + k], drawn[:, k], patients=people),
        films=int(films),
        patients=people,
        positives=int(positives),
    )
