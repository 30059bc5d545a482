"""What scores mean as probabilities: lines fitted through logits, calibration error, Brier score, reliability table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped

from hilum.metrics.bootstrap import Estimate, PerDraw, estimate
from hilum.metrics.influence import (
    FEWEST_PATIENTS,
    Measured,
    kurtosis_degrees,
    measured_mean,
    measured_rate,
    nothing,
    paired_by_intervals,
    patient_codes,
    too_few,
)
from hilum.metrics.ranking import Table

FEWEST = 10
"""Films with and films without a finding that its own slope needs; with fewer, the slope is shared."""

Logits = Float64[np.ndarray, " films"]
Features = Float64[np.ndarray, "films features"]

_STEPS = 100
_SMALLEST_STEP = 1e-12
_NOISE = 2000
"""Draws of the noise by which the interval of the calibration error is found."""


class Line(NamedTuple):
    """A finding's calibration: calibrated logit = slope x logit + intercept. `how` it was come by, in words."""

    slope: float
    intercept: float
    how: str


def temperature_lines(logits: Table, labels: Table) -> tuple[Line, ...]:
    """One slope for all findings, the inverse of the temperature, and no intercept; targets as for `platt_lines`.

    A slope that is not above 0 would turn every ranking over; all logits then stay as they are.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    _check_shapes(logits, labels)
    known = ~np.isnan(labels)
    targets = np.stack([smoothed(column) for column in labels.T], axis=1)
    slope = float(fit_logistic(logits[known][:, np.newaxis], targets[known])[0]) if known.any() else 1.0
    line = Line(slope, 0.0, "one temperature for all findings")
    if slope <= 0:
        line = Line(1.0, 0.0, "left as it was: scores do not rise with the findings")
    return tuple(line for _ in labels.T)


def platt_lines(logits: Table, labels: Table) -> tuple[Line, ...]:
    """A slope and an intercept per finding; findings too rare for a slope of their own share one.

    Targets are smoothed as Platt does, so that a perfect separation gives no infinite slope. The shared slope is fitted
    to all findings at once, each with its own intercept.

    Args:
        logits: films x findings, finite; of films that were not trained on.
        labels: 1 present, 0 absent, NaN unknown (left out).

    Raises:
        ValueError: if the two differ in shape.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999, section 2.2.
    """
    _check_shapes(logits, labels)
    shared = _shared_slope(logits, labels)
    return tuple(_line(logits[:, k], labels[:, k], shared) for k in range(labels.shape[1]))


def platt_line(logits: Logits, targets: Logits) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of targets in [0, 1] on logits."""
    slope, intercept = fit_logistic(np.stack([logits, np.ones(len(logits))], axis=1), targets)
    return float(slope), float(intercept)


def smoothed(labels: Logits) -> Logits:
    """Known labels as targets a little inside 0 and 1: by one further film of either kind."""
    present, absent = (labels == 1).sum(), (labels == 0).sum()
    targets: Logits = np.where(labels == 1, (present + 1) / (present + 2), 1 / (absent + 2))
    return targets


def logit(scores: Shaped[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """The reverse of the sigmoid; scores must lie inside 0 and 1."""
    numbers = np.asarray(scores, dtype=np.float64)
    result: Float64[np.ndarray, "*shape"] = np.log(numbers) - np.log1p(-numbers)
    return result


def sigmoid(logits: Logits) -> Logits:
    """Scores in [0, 1], without overflow."""
    result: Logits = np.exp(-np.logaddexp(0, -logits))
    return result


def fit_logistic(features: Features, targets: Logits) -> Float64[np.ndarray, " features"]:
    """The weights of an unpenalised logistic regression, by Newton's method with halved steps.

    Directions in which no feature varies keep the weight 0.

    Args:
        targets: probabilities in [0, 1]. Their loss has a minimum if no plane parts those at 1 from those at 0.
    """
    weights = np.zeros(features.shape[1])
    loss = _loss(features @ weights, targets)
    for _ in range(_STEPS):
        expected = sigmoid(features @ weights)
        gradient = features.T @ (expected - targets)
        curvature = (features * (expected * (1 - expected))[:, np.newaxis]).T @ features
        step = np.linalg.lstsq(curvature, -gradient, rcond=1e-12)[0]
        size = 1.0
        while size > _SMALLEST_STEP and (lower := _loss(features @ (weights + size * step), targets)) >= loss:
            size /= 2
        if size <= _SMALLEST_STEP:
            break
        weights, loss = weights + size * step, lower
    return weights


def _check_shapes(logits: Table, labels: Table) -> None:
    if logits.shape != labels.shape:
        raise ValueError(f"logits and labels must have one shape, got {logits.shape} and {labels.shape}")


def _shared_slope(logits: Table, labels: Table) -> float:
    both = ((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).nonzero()[0]
    if not len(both):
        return 1.0
    rows, columns = np.nonzero(~np.isnan(labels[:, both]))
    features = np.zeros((len(rows), 1 + len(both)))
    features[:, 0] = logits[:, both][rows, columns]
    features[np.arange(len(rows)), 1 + columns] = 1
    targets = np.stack([smoothed(labels[:, k]) for k in both], axis=1)[rows, columns]
    return float(fit_logistic(features, targets)[0])


def _line(logits: Logits, labels: Logits, shared: float) -> Line:
    known = ~np.isnan(labels)
    present, absent = int((labels == 1).sum()), int((labels == 0).sum())
    if not known.any():
        slope, how = (shared, "the slope of all findings") if shared > 0 else (1.0, "left as it was")
        return Line(slope, 0.0, f"{how}: no label is known")
    targets = smoothed(labels)[known]
    reason = ""
    if min(present, absent) < FEWEST:
        reason = f"{present:,} films with and {absent:,} without it are too few for its own slope"
    else:
        slope, intercept = platt_line(logits[known], targets)
        if slope > 0:
            return Line(slope, intercept, "its own slope and intercept")
        reason = "its scores do not rise with it"
    slope, how = (shared, "the slope of all findings") if shared > 0 else (1.0, "slope 1")
    intercept = float(_fit_intercept(slope * logits[known], targets))
    return Line(slope, intercept, f"{how} and its own intercept: {reason}")


def _fit_intercept(logits: Logits, targets: Logits) -> float:
    """The shift after which the mean score is the mean target."""
    low, high = -float(logits.max()) - 40, -float(logits.min()) + 40
    for _ in range(200):  # halves until the interval is below the numbers' own spacing
        middle = (low + high) / 2
        if sigmoid(logits + middle).mean() < targets.mean():
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _loss(logits: Logits, targets: Logits) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).sum())


Numbers = Float64[np.ndarray, " films"]

BINS = 10


class Bin(NamedTuple):
    """Films with neighbouring scores."""

    lowest: float
    highest: float
    mean_score: float
    present: Measured  # proportion of its films with the finding
    films: int
    patients: int
    positives: int
    positive_patients: int


@dataclass(frozen=True)
class Gaps:
    """How far each bin's films lie from calibrated, and what each patient adds to the error of that.

    Attributes:
        found: mean score minus proportion with the finding, times the bin's proportion of the films.
        parts: of each patient.
        patients: with the finding, or without it: the fewer.
        why: why there is no interval, or empty.
    """

    found: Float64[np.ndarray, " bins"]
    parts: Float64[np.ndarray, "patients bins"]
    patients: int
    why: str

    @property
    def error(self) -> float:
        """The calibration error; NaN without a film."""
        return float(np.abs(self.found).sum()) if len(self.found) else float("nan")


@dataclass(frozen=True)
class Calibration:
    """One finding's calibration; all NaN if no label is known.

    Attributes:
        ece: expected calibration error: distance of mean score and proportion present, averaged over the films' bins.
            It is never 0 on few films: set it beside `ece_by_chance`. Its interval is for the error of all such
            patients in these bins, which is smaller than the value on few films, and may be 0.
        ece_by_chance: the error that perfectly calibrated scores would show on as many independent films.
        brier: mean squared distance of score and label.
        brier_skill: 1 - brier / that of the same score for every film, the proportion present; NaN for one class.
        excess: mean score minus proportion present; above 0 the scores are too high on the whole.
        slope: of the labels' logistic regression on the scores' logits: 1 if calibrated, below 1 if the scores are too
            extreme; NaN for one class, where a score is exactly 0 or 1, or where the scores separate the films.
        bins: the reliability table, from low scores to high.
        gaps: of which `mean_error` makes the interval of a mean over findings.
    """

    ece: Estimate
    ece_by_chance: Estimate
    brier: Measured
    brier_skill: Measured
    excess: Estimate
    slope: Measured
    bins: tuple[Bin, ...]
    gaps: Gaps


def measured_calibration(
    scores: Numbers, labels: Numbers, patients: Shaped[np.ndarray, " films"], *, seed: int, bins: int = BINS
) -> Calibration:
    """Measure one finding's calibration, with 95 % intervals in which patients are the units.

    Args:
        scores: in [0, 1].
        labels: 1 present, 0 absent, NaN unknown (left out).
        patients: whose film each is.
        seed: of the noise by which the interval of `ece` is found.
        bins: of equally many films; fewer where scores tie, since equal scores share a bin.

    Raises:
        ValueError: if a score is outside [0, 1] or bins is below 1.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015
        (expected calibration error); Cox, "Two further applications of a model for binary regression", Biometrika 45,
        1958 (slope); Cameron and Miller, "A practitioner's guide to cluster-robust inference", Journal of Human
        Resources 50, 2015 (its variance).
    """
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must be in [0, 1] for calibration, got others")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    known = ~np.isnan(labels)
    codes, people = patient_codes(patients)
    codes, numbers, truth = codes[known], np.asarray(scores[known], np.float64), np.asarray(labels[known], np.float64)
    with_it, without = (len(np.unique(codes[truth == kind])) for kind in (1, 0))
    why = too_few(with_it, "with the finding") or too_few(without, "without the finding")
    place = equal_bins(numbers, bins)
    count = int(place.max(initial=-1)) + 1
    films = np.bincount(place, minlength=count).astype(np.float64)
    gaps = _gaps(numbers - truth, place, codes, people, min(with_it, without), why)
    brier = _why(measured_mean((numbers - truth) ** 2, codes, people, scale="logit"), why)
    by_chance = _by_chance(films, np.bincount(place, numbers, minlength=count).astype(np.float64), 1000, seed)
    return Calibration(
        ece=_error(gaps, seed),
        ece_by_chance=estimate(float(by_chance.mean()), by_chance),
        brier=brier,
        brier_skill=_skill(brier, truth, codes),
        excess=_excess(numbers, truth, codes, people, why),
        slope=_measured_slope(numbers, truth, codes, people, why),
        bins=tuple(_bin(numbers, truth, place == k, codes) for k in range(count)),
        gaps=gaps,
    )


def mean_error(calibrations: Sequence[Calibration], *, seed: int) -> Estimate:
    """The calibration error's mean over the findings that have one, with a 95 % interval as that of a single one.

    Args:
        calibrations: of the same patients.
        seed: of the noise by which the interval is found.
    """
    gaps = [one.gaps for one in calibrations if len(one.gaps.found)]
    if not gaps:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "no finding whose labels are known")
    most = max(one.patients for one in gaps)
    return _error(
        Gaps(
            np.concatenate([one.found for one in gaps]) / len(gaps),
            np.concatenate([one.parts for one in gaps], axis=1) / len(gaps),
            most,
            too_few(most, "with any finding") if most < FEWEST_PATIENTS else "",
        ),
        seed,
    )


def equal_bins(scores: Shaped[np.ndarray, " films"], bins: int) -> Int[np.ndarray, " films"]:
    """The bin of each film, counted from the lowest scores: equally many films in each, equal scores in the same."""
    ranked = np.sort(scores)
    first_of_tie = np.searchsorted(ranked, scores, side="left")
    places: Int[np.ndarray, " films"] = np.unique(first_of_tie * bins // max(len(scores), 1), return_inverse=True)[1]
    return places


def _by_chance(
    films: Float64[np.ndarray, " bins"], scores: Float64[np.ndarray, " bins"], samples: int, seed: int
) -> PerDraw:
    """Calibration errors of labels that are drawn from the bins' mean scores."""
    if not len(films):
        return np.full(samples, np.nan)
    rates = np.clip(scores / films, 0, 1)  # a mean of ones may exceed 1 by a rounding
    generator = np.random.default_rng(seed)
    present = generator.binomial(films.astype(np.int64), rates, size=(samples, len(films)))
    errors: PerDraw = np.abs(present - scores).sum(axis=1) / films.sum()
    return errors


def _why(measured: Measured, why: str) -> Measured:
    return replace(measured, why=why or measured.why)


def _bin(
    scores: Numbers, truth: Numbers, here: Shaped[np.ndarray, " films"], codes: Shaped[np.ndarray, " films"]
) -> Bin:
    inside, present = scores[here], truth[here] == 1
    return Bin(
        lowest=float(inside.min()),
        highest=float(inside.max()),
        mean_score=float(inside.mean()),
        present=measured_rate(truth, here, codes, "in this bin"),
        films=len(inside),
        patients=len(np.unique(codes[here])),
        positives=int(present.sum()),
        positive_patients=len(np.unique(codes[here][present])),
    )


def _gaps(
    distance: Numbers,
    place: Int[np.ndarray, " films"],
    codes: Int[np.ndarray, " films"],
    people: int,
    patients: int,
    why: str,
) -> Gaps:
    """Of score minus label of each film, in bins; each patient is measured from the others."""
    count = int(place.max(initial=-1)) + 1
    if not count:
        return Gaps(np.zeros(0), np.zeros((people, 0)), 0, "no film whose label is known")
    found = np.bincount(place, distance, minlength=count) / len(distance)
    films = np.bincount(codes, minlength=people)
    sums = np.zeros((people, count))
    np.add.at(sums, (codes, place), distance)
    parts = sums - films[:, np.newaxis] * found
    parts /= np.maximum(len(distance) - films, 1)[:, np.newaxis]
    return Gaps(found, parts, patients, why)


def _error(gaps: Gaps, seed: int) -> Estimate:
    """The calibration error, and between which errors of all patients it is neither too large nor too small by chance.

    Candidates: every bin's gap larger, or smaller, by the same number of its own errors. Noise: multivariate t, with
    the covariance that these patients show.
    """
    value, found = gaps.error, gaps.found
    if gaps.why:
        return Estimate(value, float("nan"), float("nan"), 0, gaps.why)
    values, vectors = np.linalg.eigh(gaps.parts.T @ gaps.parts)
    generator = np.random.default_rng(seed)
    normal = generator.normal(size=(_NOISE, len(found))) * np.sqrt(np.maximum(values, 0))
    degrees = kurtosis_degrees(gaps.parts @ np.sign(found))
    noise = (normal @ vectors.T) / np.sqrt(generator.chisquare(degrees, size=(_NOISE, 1)) / degrees)
    own_errors = np.sqrt((gaps.parts**2).sum(axis=0))

    def moved(errors: float) -> Float64[np.ndarray, " bins"]:
        larger: Float64[np.ndarray, " bins"] = np.maximum(np.abs(found) + errors * own_errors, 0.0)
        return larger

    ends = []
    for quantile in (0.975, 0.025):
        below, above = -40.0, 40.0
        for _ in range(20):  # to a thousandth of an own error
            middle = (below + above) / 2
            reached = np.quantile(np.abs(moved(middle) * np.where(found < 0, -1, 1) + noise).sum(axis=1), quantile)
            below, above = (middle, above) if reached < value else (below, middle)
        ends.append(float(moved(below).sum()))
    return Estimate(value, min(value, ends[0]), max(value, ends[1]), 0)


def _excess(scores: Numbers, truth: Numbers, codes: Int[np.ndarray, " films"], people: int, why: str) -> Estimate:
    """Mean score minus prevalence, from the intervals of both: that of a rare finding's prevalence is lopsided."""
    mean = measured_mean(scores, codes, people, scale="plain")
    prevalence = measured_mean(truth, codes, people, scale="rate")
    return paired_by_intervals(_why(prevalence, why), _why(mean, why)).estimate


def _skill(brier: Measured, truth: Numbers, codes: Int[np.ndarray, " films"]) -> Measured:
    """1 - Brier score / that of the prevalence for every film."""
    prevalence = float(truth.mean()) if len(truth) else float("nan")
    if not 0 < prevalence < 1:
        return nothing(len(brier.parts), brier.why or "all films alike")
    reference = prevalence * (1 - prevalence)
    of_prevalence = measured_mean(truth, codes, len(brier.parts), scale="plain")
    parts = (brier.value * (1 - 2 * prevalence) / reference * of_prevalence.parts - brier.parts) / reference
    return replace(brier, value=1 - brier.value / reference, parts=parts, scale="ratio")


def _measured_slope(
    scores: Numbers, truth: Numbers, codes: Int[np.ndarray, " films"], people: int, why: str
) -> Measured:
    """The slope, with a variance that is robust to the films of a patient being alike."""
    present = truth == 1
    if present.all() or not present.any():
        return nothing(people, why)
    if ((scores <= 0) | (scores >= 1)).any():
        return nothing(people, "not estimable: a score is exactly 0 or 1")
    above, below = scores[present], scores[~present]
    if above.min() >= below.max() or below.min() >= above.max():
        return nothing(people, "not estimable: the scores separate the films perfectly")
    logits = logit(scores)
    slope, intercept = platt_line(logits, truth)
    features = np.stack([logits, np.ones(len(logits))], axis=1)
    expected = sigmoid(slope * logits + intercept)
    weight = (expected * (1 - expected))[:, np.newaxis, np.newaxis]
    curvatures = np.zeros((people, 2, 2))
    np.add.at(curvatures, codes, weight * features[:, :, np.newaxis] * features[:, np.newaxis, :])
    gradients = np.zeros((people, 2))
    np.add.at(gradients, codes, (truth - expected)[:, np.newaxis] * features)
    without = curvatures.sum(axis=0) - curvatures + 1e-12 * np.eye(2)  # each patient left out
    parts = np.linalg.solve(without, gradients[:, :, np.newaxis])[:, 0, 0]
    positives = np.bincount(codes[present])
    effective = float(positives.sum() ** 2 / (positives**2).sum())
    degrees = max(1.0, min(kurtosis_degrees(parts), effective - 1))
    return Measured(slope, parts, int((positives > 0).sum()), effective, degrees, "plain", why)
