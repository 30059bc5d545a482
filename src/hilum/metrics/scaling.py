"""Making scores mean what they say: a line through each finding's logits, fitted on films that were not trained on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from hilum.metrics.ranking import Table

FEWEST = 10
"""Films with and films without a finding that its own slope needs; with fewer, the slope is shared."""

Logits = Float64[np.ndarray, " films"]
Features = Float64[np.ndarray, "films features"]

_STEPS = 100
_SMALLEST_STEP = 1e-12


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
