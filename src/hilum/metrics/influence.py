"""Measures with each patient's part in their error: intervals and tests of many groups without resampling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int
from scipy.special import expit, logit
from scipy.stats import t

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.compare import placements
from hilum.metrics.sums import unanimous

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
